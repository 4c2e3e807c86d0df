"""Each error says which exit code a command should end with: 3, data unusable; 2 for what a person wrote."""

from __future__ import annotations

import pytest

from pico_schema import errors


@pytest.mark.parametrize(
    ("name", "code", "base"),
    [
        ("SchemaError", 3, Exception),
        ("DocumentError", 3, errors.SchemaError),
        ("UnsafePathError", 3, errors.DocumentError),
        ("SchemaVersionError", 3, errors.DocumentError),
        ("SiteError", 3, errors.SchemaError),
        ("AddressError", 2, errors.SchemaError),
        ("YamlError", 2, errors.SchemaError),
        ("TensorHeaderError", 3, errors.SchemaError),
        ("IncompleteError", 3, errors.SchemaError),
    ],
)
def test_an_error_has_its_exit_code(name: str, code: int, base: type[Exception]) -> None:
    error = getattr(errors, name)("why")
    assert error.exit_code == code and isinstance(error, base)
