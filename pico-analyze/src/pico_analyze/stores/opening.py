"""Which kind of run a path or address is, and where runs are found when none is named.

Every kind of run (`STORES`) is asked, in the order of the specs; no kind is known here by name.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from pico_analyze.errors import DataError, NotARunError, PicoAnalyzeError, PluginError, nearest
from pico_analyze.stores.base import ReadOptions, Store
from pico_analyze.stores.spec import STORES, StoreSpec
from pico_schema import layout

__all__ = ["RUNS", "ReadOptions", "checkpoint_of", "is_address", "is_run", "local_runs", "newest_run", "open_store"]

RUNS = Path("runs")
"""Where runs are looked for when none is named."""


def is_address(text: str) -> bool:
    """Whether this is an address, such as ``hf://org/name``, rather than a path."""
    return "://" in text


def open_store(location: str | Path, options: ReadOptions | None = None) -> Store:
    """Open the run at a path or address; what kind it is is found out.

    Raises:
        NotARunError: there is nothing there, or nothing of a known kind; the message says what was looked for.
        DataError: it is a run, and damaged, or its path is no text that a table could hold.
        PluginError: the kind of run needs a package that is not installed, or its plug-in is broken.
    """
    text = str(location)
    path = Path(location)
    if not is_address(text):
        _check_text(path)
    if not is_address(text) and not path.exists():
        known = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise NotARunError(f"{path}: there is no such path{nearest(path.name, known)}")
    specs, broken = _kinds(remote=is_address(text))
    for spec in specs:
        try:
            found = spec.recognises(text)
        except PicoAnalyzeError:
            raise
        except Exception as error:  # whatever one kind trips over, the others are asked
            broken.append(PluginError(f"store {spec.name!r} fails at {text} ({type(error).__name__}: {error})"))
            continue
        if found:
            return _opened(spec, text, options or ReadOptions())
    signs = [spec.sign for spec in specs]
    looked = f"{', '.join(signs[:-1])}, and {signs[-1]}" if len(signs) > 1 else "".join(signs)
    left_out = "".join(f"; left out: {error}" for error in broken)
    inside = "" if is_address(text) else _inside(path)
    raise NotARunError(f"{location}: not a run: looked for {looked}{inside}{left_out}")


def _check_text(path: Path) -> None:
    """Refuse a path that is not UTF-8: rows say where their numbers come from, and could not be written."""
    if "\0" in str(path):
        raise NotARunError(f"{str(path)!r}: there is no such path")
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError:
        raise DataError(
            f"{str(path.absolute())!r}: the path is not UTF-8, so rows could not say where they come from: rename it"
        ) from None


def _kinds(*, remote: bool) -> tuple[list[StoreSpec], list[PluginError]]:
    """The kinds of runs at addresses or at paths, in the order in which they are asked; plug-ins that do not load."""
    found = list(STORES.each())
    specs = [one for one in found if isinstance(one, StoreSpec) and one.remote == remote]
    return sorted(specs, key=lambda spec: spec.order), [one for one in found if isinstance(one, PluginError)]


def _opened(spec: StoreSpec, location: str, options: ReadOptions) -> Store:
    try:
        store = spec.open(location, options)
    except ImportError as error:
        install = spec.install or "install it, or update the package that reads such runs"
        raise PluginError(f"{location}: {spec.title}, and reading it needs {error.name or error}: {install}") from None
    if store.kind != spec.name:
        raise PluginError(f"store {spec.name!r} gives runs of kind {store.kind!r}: the two names have to agree")
    return store


def is_run(path: Path) -> bool:
    """Whether there is a run of some kind in a directory, be it one that cannot be read as it is."""
    for spec in _kinds(remote=False)[0]:
        with suppress(Exception):
            if spec.recognises(str(path)):
                return True
    return False


def checkpoint_of(path: Path) -> tuple[Path, int] | None:
    """The run's directory and the step, if a directory is that of one checkpoint of a run."""
    for spec in _kinds(remote=False)[0]:
        with suppress(Exception):
            if (found := spec.checkpoint(path)) is not None:
                return found
    return None


def _inside(path: Path) -> str:
    """A hint what is missing, or where the run may be instead: a parent of this directory, or directories in it."""
    if any((path / layout.CHECKPOINTS).glob(f"*/{layout.MANIFEST}")):
        return (
            f"; its {layout.RUN_MANIFEST} is gone and checkpoints are there: `pico-train repair {path}` makes it again"
        )
    for parent in path.resolve().parents:
        if _changed(parent) is not None:
            return f"; it lies inside the run {parent}: name that"
    runs = [entry.relative_to(path).as_posix() for entry in (*local_runs(path), *local_runs(path / RUNS))]
    return f"; it contains the runs {', '.join(runs[:5])}: name one" if runs else ""


def local_runs(root: Path = RUNS) -> list[Path]:
    """Directories under `root` that hold a run of a kind that is listed, newest first; those of suites among them."""
    if not root.is_dir():
        return []
    places = [entry for entry in root.iterdir() if entry.is_dir()]
    suites = [entry for entry in places if (entry / layout.SUITE_MANIFEST).is_file()]
    places += [member for suite in suites for member in suite.iterdir() if member.is_dir()]
    found = {entry: _changed(entry) for entry in places}
    dated = [(-changed, entry.name, entry) for entry, changed in found.items() if changed is not None]
    return [entry for *_, entry in sorted(dated)]


def _changed(path: Path) -> float | None:
    """When a run last changed, as the first kind says that knows it; None if this is no run."""
    for spec in _kinds(remote=False)[0]:
        with suppress(Exception):  # what a plug-in fails at is told when the place is opened
            changed = spec.changed(path)
            if changed is not None:
                return changed
    return None


def newest_run(root: Path = RUNS) -> Path:
    """The run under `root` that changed last.

    Raises:
        NotARunError: there is none.
    """
    runs = local_runs(root)
    if not runs:
        raise NotARunError(
            f"no run under {root.resolve()}: name one (a path or hf://org/name@branch), or make one with "
            "`pico-train run`"
        )
    return runs[0]
