"""Both tools keep what they fetch in one place, each in a folder of its own: `PICO_CACHE` moves both.

Each tool is asked in its interpreter, which is this one or, across environments, one of two others.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TRAIN = os.environ.get("PICO_TRAIN_PYTHON", sys.executable)
ANALYZE = os.environ.get("PICO_ANALYZE_PYTHON", sys.executable)
TOOLS = {
    "data": (TRAIN, "pico_train", "pico_train.data.cache", "cache_root"),
    "hub": (ANALYZE, "pico_analyze", "pico_analyze.stores.hub.block_cache", "default_cache"),
}
"""By the folder that a tool has of its own: interpreter, package, and the function that says where its caches are."""
CODE = """
import importlib, importlib.util, json, sys
package, module, function = sys.argv[1:]
if importlib.util.find_spec(package) is None:
    print(json.dumps(None))
else:
    import platformdirs
    place = getattr(importlib.import_module(module), function)()
    print(json.dumps([str(place), str(platformdirs.user_cache_path("pico"))]))
"""


def place(folder: str, home: Path, **environment: str) -> tuple[Path, Path]:
    """Where a tool keeps its caches, and where this platform keeps a user's, for somebody whose home is `home`."""
    python, *words = TOOLS[folder]
    clean = {key: value for key, value in os.environ.items() if key not in ("PICO_CACHE", "XDG_CACHE_HOME")}
    done = subprocess.run(
        [python, "-c", CODE, *words],
        capture_output=True,
        text=True,
        check=False,
        env=clean | {"HOME": str(home), "USERPROFILE": str(home)} | environment,
        cwd=home,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    if found is None:
        pytest.skip(f"{words[0]} is not installed for {python}")
    return Path(found[0]), Path(found[1])


@pytest.mark.parametrize("folder", TOOLS)
def test_pico_cache_moves_each_tool(folder: str, tmp_path: Path) -> None:
    assert place(folder, tmp_path, PICO_CACHE=str(tmp_path / "big"))[0] == tmp_path / "big" / folder
    assert place(folder, tmp_path, PICO_CACHE="~/big")[0] == tmp_path / "big" / folder
    assert list(tmp_path.iterdir()) == [], "to ask makes nothing"


@pytest.mark.parametrize("folder", TOOLS)
@pytest.mark.parametrize("unset", [{}, {"PICO_CACHE": ""}], ids=["unset", "empty"])
def test_else_a_tool_is_among_the_caches_of_this_platform(folder: str, unset: dict[str, str], tmp_path: Path) -> None:
    found, of_user = place(folder, tmp_path, **unset)
    assert found == of_user / folder
    assert found.is_relative_to(tmp_path), "the home that was given"


@pytest.mark.parametrize("chosen", ["PICO_CACHE", "XDG_CACHE_HOME", None])
def test_the_tools_lie_side_by_side(chosen: str | None, tmp_path: Path) -> None:
    environment = {chosen: str(tmp_path / "elsewhere")} if chosen else {}
    data, hub = (place(folder, tmp_path, **environment)[0] for folder in TOOLS)
    assert data.parent == hub.parent
    assert data.name == "data"
    assert hub.name == "hub"
