from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_schema import DocumentError, UnsafePathError, layout


@given(st.integers(0, layout.MAX_STEP))
def test_a_step_directory_parses_back(step: int) -> None:
    assert layout.parse_step_dir(layout.step_dir(step)) == step


@given(st.integers(0, layout.MAX_STEP))
def test_a_tag_parses_back_even_where_the_name_looks_like_a_tag(step: int) -> None:
    assert layout.parse_tag(layout.tag_name("a-step-7", step)) == ("a-step-7", step)


def test_names_are_those_of_the_contract() -> None:
    assert layout.checkpoint_dir(128) == "checkpoints/step-00000128"
    assert layout.evaluation_file(128) == "evaluations/step-00000128.json"
    assert layout.VALIDATION_ROWS == "validation.parquet"
    assert layout.VALIDATION_COLUMNS == ("row", "input_ids", "text", "source")
    assert layout.captures_file("val") == "captures/val.safetensors"
    assert layout.tag_name("demo", 128) == "demo-step-128"
    assert layout.branch_name("demo") == "demo"


@pytest.mark.parametrize("step", [-1, 10**8])
def test_a_step_that_eight_digits_cannot_hold_is_refused(step: int) -> None:
    with pytest.raises(DocumentError, match="out of range"):
        layout.step_dir(step)


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "a..b", "x.lock", "ends.", "ü", "a b", "a" * 97, "../x"])
def test_a_name_that_cannot_be_a_directory_and_a_branch_is_refused(name: str) -> None:
    with pytest.raises(DocumentError, match="run name"):
        layout.check_run_name(name)


@pytest.mark.parametrize(
    "path",
    ["", "/etc/passwd", "../x", "a/../b", "a//b", "./a", "a/", "a\0b", "a\\b", "C:x", "a\nb", "nul.", "a ", "x" * 2000],
)
def test_a_path_that_could_leave_its_directory_is_refused(path: str) -> None:
    with pytest.raises(UnsafePathError):
        layout.safe_relative_path(path)


@pytest.mark.parametrize("paths", [["a", "A"], ["é", "e\u0301"], ["a", "a/b"], ["x/a/b", "x/a"], ["a/B/c", "a/b"]])
def test_paths_that_collide_on_some_file_systems_are_refused(paths: list[str]) -> None:
    with pytest.raises(UnsafePathError, match="collide"):
        layout.check_paths(paths)


def test_ordinary_paths_are_accepted() -> None:
    layout.check_paths(["a", "b/c", "b/d", "captures/train.safetensors"])


def test_a_symbolic_link_out_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path)
    with pytest.raises(UnsafePathError, match="symbolic link"):
        layout.inside(tmp_path / "root", "link/secret")


@given(st.text(max_size=40))
def test_whatever_is_accepted_stays_inside(path: str) -> None:
    try:
        pure = layout.safe_relative_path(path)
    except UnsafePathError:
        return
    assert ".." not in pure.parts and not pure.is_absolute()
