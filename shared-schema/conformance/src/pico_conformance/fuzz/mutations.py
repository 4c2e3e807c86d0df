"""What is done to a run: one fault of one kind to one file or directory, chosen by a seed.

Some faults are such as disks, people and broken programs make; others are hostile. Half of those inside a file are
*sealed*: the digests that name the file are made to fit again, so that what reads the content meets it.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pico_schema import layout


@dataclass(frozen=True)
class Mutation:
    """What was done."""

    kind: str
    """Kind of the fault."""
    path: str
    """File or directory, relative to the folder that is mutated."""
    detail: str = ""
    """What exactly."""
    sealed: bool = False
    """Whether the digests were made to fit the new content, so that it is another run, not a damaged one."""

    def __str__(self) -> str:
        seal = ", sealed" if self.sealed else ""
        return f"{self.kind} {self.path}{f' ({self.detail})' if self.detail else ''}{seal}"


HUGE = 10**30
NASTY: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**53, 2**63, 2**64, -(2**63), HUGE, 10**400, 0.5, 1e308, -0.0),
    *(
        "",
        "x",
        "\ud83d",
        "\x00",
        "\x1b[2J",
        "../../../etc/passwd",
        "/etc/passwd",
        "a" * 5000,
        "NaN",
        "3",
        "ünïcode",
        "\\",
    ),
    *([], {}, [[]], [1, 2, 3], {"": {}}, ["F32"], [None]),
    *(float("nan"), float("inf"), float("-inf")),
)
"""Values that a field may find instead of its own."""


def mutate(folder: Path, rng: random.Random) -> Mutation:
    """Do one thing to a folder of a run (and a table of its analysis); which one, the generator decides."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    target = _choose(files, rng)
    fault = rng.choices(list(_FAULTS), weights=list(_FAULTS.values()))[0]
    return fault(folder, target, rng)


def _choose(files: list[Path], rng: random.Random) -> Path:
    """A file; kinds of files come equally often, however many there are of one."""
    names = sorted({file.name if layout.parse_step_dir(file.stem) is None else "evaluation" for file in files})
    name = rng.choice(names)
    return rng.choice(
        [file for file in files if file.name == name or (name == "evaluation" and "evaluations" in file.parts)]
    )


def _at(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()


# Inside a file


def flip_bits(folder: Path, target: Path, rng: random.Random) -> Mutation:
    """One to eight bits are the other way round."""
    content = bytearray(target.read_bytes())
    if not content:
        return cut(folder, target, rng)
    # Headers and footers are where readers look first.
    edge = rng.choice([len(content), min(len(content), 256)])
    places = [
        rng.randrange(edge) if rng.random() < 0.7 else len(content) - 1 - rng.randrange(edge)
        for _ in range(rng.choice([1, 1, 8]))
    ]
    for place in places:
        content[place] ^= 1 << rng.randrange(8)
    return _rewritten("bits", folder, target, bytes(content), f"bytes {sorted(places)}", rng)


def cut(folder: Path, target: Path, rng: random.Random) -> Mutation:
    """The file ends early, is empty, or goes on too long."""
    content = target.read_bytes()
    kept = rng.choice([0, 1, 7, 8, len(content) // 2, max(0, len(content) - 1), rng.randrange(len(content) + 1)])
    new = content[:kept] if rng.random() < 0.8 else content + rng.randbytes(rng.choice([1, 8, 4096]))
    return _rewritten("length", folder, target, new, f"{len(content)} to {len(new)} bytes", rng)


def overwrite(folder: Path, target: Path, rng: random.Random) -> Mutation:
    """A stretch is zeros or noise, as from a sector that was lost."""
    content = bytearray(target.read_bytes())
    start = rng.randrange(len(content) + 1)
    length = min(len(content) - start, rng.choice([1, 16, 512, 4096]))
    content[start : start + length] = bytes(length) if rng.random() < 0.5 else rng.randbytes(length)
    return _rewritten("stretch", folder, target, bytes(content), f"{length} bytes from {start}", rng)


def change_value(folder: Path, target: Path, rng: random.Random) -> Mutation:
    """A field of a JSON document, or of a tensor file's header, holds something else."""
    if target.suffix == ".safetensors":
        return change_header(folder, target, rng)
    if target.suffix not in (".json", ".jsonl"):
        return flip_bits(folder, target, rng)
    lines = target.read_text().splitlines() if target.suffix == ".jsonl" else [target.read_text()]
    place = rng.randrange(len(lines)) if lines else 0
    try:
        text, detail = _other_json(json.loads(lines[place]), rng)
    except (ValueError, IndexError):
        return flip_bits(folder, target, rng)
    lines[place] = text
    return _rewritten("value", folder, target, "\n".join(lines).encode("utf-8", "surrogatepass"), detail, rng)


def change_header(folder: Path, target: Path, rng: random.Random) -> Mutation:
    """The header of a tensor file says something else: types, shapes, places, names, metadata."""
    content = target.read_bytes()
    length = int.from_bytes(content[:8], "little")
    try:
        header = json.loads(content[8 : 8 + length])
    except ValueError:
        return flip_bits(folder, target, rng)
    names = [name for name in header if name != "__metadata__"]
    what = rng.choice(["field", "shape", "places", "dtype", "same", "gone", "any", "length"])
    name, detail = rng.choice(names), what
    entry = header[name]
    text = ""
    if what == "field":
        entry[rng.choice(list(entry))] = rng.choice(NASTY)
    elif what == "shape":
        shape = entry["shape"]
        entry["shape"] = rng.choice(
            [shape[::-1], [*shape, 1], shape[:-1], [1, *shape], [*shape, 0], [2**31, 2**33], [-1]]
        )
    elif what == "places":
        begin, end = entry["data_offsets"]
        entry["data_offsets"] = rng.choice(
            [[begin, end + 4], [begin - 4, end], [end, begin], [0, 2**62], [begin], [0, end - begin]]
        )
    elif what == "dtype":
        entry["dtype"] = rng.choice(["F64", "F16", "BF16", "I32", "F8_E4M3", "F4", "", ["F32"], {"F32": 1}])
    elif what == "same":
        other = rng.choice(names)
        header[name], header[other] = header[other], header[name]
        detail = f"same: {name} and {other} change places"
    elif what == "gone":
        del header[name]
    elif what == "any":
        text, detail = _other_json(header, rng)
    raw = (text or _text(header)).encode("utf-8", "surrogatepass")
    claimed = rng.choice([0, 7, 2**63, len(raw) + 1, len(content)]) if what == "length" else len(raw)
    new = claimed.to_bytes(8, "little") + raw + content[8 + length :]
    return _rewritten("header", folder, target, new, f"{name}: {detail}", rng)


def _other_json(value: Any, rng: random.Random) -> tuple[str, str]:
    """A JSON value with one place changed, as text; and what was changed."""
    value = copy.deepcopy(value)
    places = list(_places(value))
    if not places:
        return _text(rng.choice(NASTY)), "the whole"
    holder, key, path = rng.choice(places)
    what = rng.choice(["nasty", "nasty", "nasty", "gone", "twice", "deep", "renamed", "longer"])
    if what == "nasty":
        holder[key] = new = rng.choice(NASTY)
        return _text(value), f"{path} = {str(new)[:40]!r}"
    if what == "gone":
        del holder[key]
    elif what == "longer" and isinstance(holder, list):
        holder += holder[:] * 3
    elif what == "renamed" and isinstance(holder, dict):
        holder[rng.choice(["\ud83d", "../x", "x" * 3000, "", "\x1b[2J"])] = holder.pop(key)
    elif what == "twice" and isinstance(holder, dict):
        marker = "\0twice\0"
        holder[marker] = rng.choice([holder[key], *NASTY[:8]])
        return _text(value).replace(_text(marker), _text(key)), f"{path} twice"
    else:
        depth = rng.choice([50, 5000, 200_000])
        holder[key] = marker = "\0deep\0"
        return _text(value).replace(_text(marker), "[" * depth + "]" * depth), f"{path} {depth} deep"
    return _text(value), f"{path} {what}"


def _text(value: Any) -> str:
    with_digits = json.dumps(value) if not isinstance(value, int) or isinstance(value, bool) else str(value)
    return with_digits


def _places(value: Any, path: str = "$") -> list[tuple[Any, Any, str]]:
    """Every place in a JSON value: what holds it, its key there, and its path."""
    found: list[tuple[Any, Any, str]] = []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found.append((value, key, f"{path}.{key}"))
        found += _places(inner, f"{path}.{key}")
    return found


def _rewritten(kind: str, folder: Path, target: Path, content: bytes, detail: str, rng: random.Random) -> Mutation:
    """Put the content in its place, and seal it one time in two where something holds its digest."""
    if content == target.read_bytes():
        return Mutation("nothing", _at(folder, target))
    target.unlink()
    target.write_bytes(content)
    sealed = rng.random() < 0.5 and seal(target)
    return Mutation(kind, _at(folder, target), detail[:150], sealed)


def seal(target: Path) -> bool:
    """Make the digests that name a file fit it; False where nothing names it or what does is damaged."""
    run = next((parent for parent in target.parents if (parent / layout.RUN_MANIFEST).is_file()), None)
    if run is None or target.name == layout.RUN_MANIFEST:
        return False
    digest, size = hashlib.sha256(target.read_bytes()).hexdigest(), target.stat().st_size
    try:
        index = json.loads((run / layout.RUN_MANIFEST).read_text())
        relative = target.relative_to(run).as_posix()
        if relative == layout.VALIDATION_ROWS:
            index["validation"] |= {"size": size, "sha256": digest}
        elif relative.startswith(f"{layout.CHECKPOINTS}/"):
            checkpoint = run.joinpath(*target.relative_to(run).parts[:2])
            _seal_in_manifest(checkpoint, target, digest, size)
            manifest = hashlib.sha256((checkpoint / layout.MANIFEST).read_bytes()).hexdigest()
            for entry in index["checkpoints"]:
                if entry["step"] == layout.parse_step_dir(checkpoint.name):
                    entry["manifest_sha256"] = manifest
        else:
            return False
        (run / layout.RUN_MANIFEST).write_text(json.dumps(index, indent=1))
    except (ValueError, KeyError, TypeError, OSError):
        return False
    return True


def _seal_in_manifest(checkpoint: Path, target: Path, digest: str, size: int) -> None:
    if target.name == layout.MANIFEST:
        return
    path = checkpoint / layout.MANIFEST
    manifest = json.loads(path.read_text())
    manifest["files"][target.relative_to(checkpoint).as_posix()] = {"size": size, "sha256": digest}
    if target.name == layout.WEIGHTS:
        manifest["weights_sha256"] = digest
    path.write_text(json.dumps(manifest, indent=1))


# Files and directories


def lose(folder: Path, target: Path, rng: random.Random) -> Mutation:
    """A file, or the directory that it is in, is gone."""
    if rng.random() < 0.3 and target.parent not in (folder, folder / "golden"):
        target = target.parent
        shutil.rmtree(target)
    else:
        target.unlink()
    return Mutation("lost", _at(folder, target))


def swap(folder: Path, target: Path, rng: random.Random) -> Mutation:
    """Two files of one name change places, as between two checkpoints; or two directories."""
    if rng.random() < 0.3 and (
        step := next((p for p in target.parents if layout.parse_step_dir(p.name) is not None), None)
    ):
        target = step
    others = [path for path in sorted(folder.rglob(target.name if target.is_file() else "step-*")) if path != target]
    others = [path for path in others if path.is_dir() == target.is_dir()]
    if not others:
        return lose(folder, target, rng) if target.is_file() else Mutation("nothing", _at(folder, target))
    other = rng.choice(others)
    aside = folder / ".aside"
    target.rename(aside)
    other.rename(target)
    aside.rename(other)
    return Mutation("swapped", _at(folder, target), f"with {_at(folder, other)}")


def double(folder: Path, target: Path, rng: random.Random) -> Mutation:
    """A file or a checkpoint is there twice, under another name or in the place of another one."""
    step = next((p for p in target.parents if layout.parse_step_dir(p.name) is not None), None)
    if step is not None and rng.random() < 0.5:
        new = step.with_name(rng.choice(["step-00000009", "step-00000003", "step-9", "copy", "step-99999999"]))
        if new.exists():
            shutil.rmtree(new)
        shutil.copytree(step, new)
        return Mutation("doubled", _at(folder, step), f"as {new.name}")
    new = target.with_name(rng.choice([f"{target.name}~", f"x{target.suffix}", "model.safetensors", "manifest.json"]))
    if new == target:
        return lose(folder, target, rng)
    shutil.copyfile(target, new)
    return Mutation("doubled", _at(folder, target), f"as {new.name}")


def replace(folder: Path, target: Path, rng: random.Random) -> Mutation:
    """A directory, a pipe, or a link stands where a file was; or a link where a checkpoint was."""
    what = rng.choice(["directory", "pipe", "link out", "link in a circle", "link to nothing", "linked directory"])
    if what == "linked directory" and target.parent not in (folder, folder / "golden"):
        target = target.parent
        moved = folder.parent / f"{folder.name}-elsewhere"
        target.rename(moved)
        target.symlink_to(moved)
        return Mutation(what, _at(folder, target))
    if what == "link out":
        moved = folder.parent / f"{folder.name}-elsewhere"
        target.rename(moved)
        target.symlink_to(moved)
        return Mutation(what, _at(folder, target))
    target.unlink()
    if what in ("directory", "linked directory"):
        target.mkdir()
        (target / "x").write_text("x")
    elif what == "pipe":
        os.mkfifo(target)
    else:
        target.symlink_to(target.name if what == "link in a circle" else "nowhere")
    return Mutation(what, _at(folder, target))


Fault = Callable[[Path, Path, random.Random], Mutation]
_FAULTS: dict[Fault, int] = {
    flip_bits: 4,
    change_value: 8,
    cut: 2,
    overwrite: 2,
    lose: 2,
    swap: 2,
    double: 2,
    replace: 2,
}
"""What may happen, and how often."""
