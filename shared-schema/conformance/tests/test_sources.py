"""What holds for the source text of both tools."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
TOOLS = {"pico_train": ROOT / "pico-train/src/pico_train", "pico_analyze": ROOT / "pico-analyze/src/pico_analyze"}
TRUSTED = {
    "pico_train": {
        "publish/worker.py": "its parent's order, through a pipe",
        "publish/supervisor.py": "its child's words, through a pipe",
        "data/prepare/lines.py": "with a hook of its own, since a layout says what half a surrogate pair means",
        "json_file.py": "of what was parsed strictly",
    },
    "pico_analyze": {
        "engine/confirm.py": "a cell of our own table, which carries a checksum",
        "models/behaving.py": "cells of our own table",
        "models/beginning.py": "what it has just written, as JSON has it",
        "models/sealing.py": "what it has just written, as JSON has it",
        "output/audit_text.py": "what it has just written, as JSON has it",
        "output/behaviour.py": "cells of our own table",
        "output/figures/selection.py": "cells of our own table",
        "output/report/batches.py": "cells of our own table",
        "output/report/recipes.py": "cells of our own table",
        "output/text.py": "cells of our own table",
        "stores/pickled/pickles.py": "our own child's words, through a pipe",
        "stores/pickled/unpickle.py": "its parent's request, through a pipe",
        "stores/transformers/by_library.py": "our own child's words, through a pipe",
        "stores/transformers/make_model.py": "its parent's request, and what peft reads so too",
    },
}
"""Where JSON is read by a parser that takes two meanings for one."""


def nodes(tool: str) -> Iterator[tuple[str, ast.AST]]:
    """Each node of each module, with the module's path in the package."""
    for path in sorted(TOOLS[tool].rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            yield path.relative_to(TOOLS[tool]).as_posix(), node


@pytest.mark.parametrize("tool", TOOLS)
def test_no_file_is_read_by_a_parser_that_takes_things_on_trust(tool: str) -> None:
    parsers = {"json.loads", "json.load", "json.JSONDecoder"}
    found = {
        module
        for module, node in nodes(tool)
        if isinstance(node, ast.Attribute) and (node.attr == "model_validate_json" or ast.unparse(node) in parsers)
    }
    assert found == set(TRUSTED[tool])


@pytest.mark.parametrize("tool", TOOLS)
def test_no_message_leaves_the_plural_to_its_reader(tool: str) -> None:
    """``1 row(s)`` says that nobody looked."""
    texts = ((module, node.value) for module, node in nodes(tool) if isinstance(node, ast.Constant))
    assert [each for each in texts if isinstance(each[1], str) and re.search(r"\w\(e?s\)", each[1])] == []
