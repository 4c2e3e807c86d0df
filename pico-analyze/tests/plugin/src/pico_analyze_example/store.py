"""A kind of run: a folder with `model.json`, the model's geometry, and the weights of each step as `step-<N>.npz`."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import numpy as np

from pico_analyze.errors import DataError
from pico_analyze.stores.base import Data, Input, ReadOptions, StepInfo, Unusable
from pico_analyze.stores.checked_file import CheckedFile
from pico_analyze.stores.spec import StoreSpec
from pico_schema import ModelSpec

MODEL, STEPS = "model.json", "step-*.npz"


class NpzStore:
    """Arrays of an .npz file are named by site: ``layers.0.attn.v``, (out, in)."""

    kind = "npz"

    def __init__(self, path: Path) -> None:
        self.path, self.location, self.run = path, str(path), path.resolve().name
        try:
            self._model = ModelSpec.model_validate_json((path / MODEL).read_bytes())
            self._files = {int(file.stem.removeprefix("step-")): CheckedFile(file) for file in path.glob(STEPS)}
        except ValueError as error:
            raise DataError(f"{path}: not a folder of steps ({str(error).splitlines()[0]})") from None

    def steps(self) -> tuple[StepInfo, ...]:
        """Every file; its digest tells whether rows have to be computed again."""
        found = []
        for step, file in sorted(self._files.items()):
            with np.load(io.BytesIO(file.whole())) as arrays:
                found.append(StepInfo(step, file.sha256, weights=tuple(arrays)))
        return tuple(found)

    def unusable(self) -> tuple[Unusable, ...]:
        """Nothing: a file is there or not."""
        return ()

    def spec(self, step: int) -> ModelSpec:
        """The same geometry at every step."""
        self._file(step)
        return self._model

    def read(self, step: int, split: str | None, data: Data, site: str) -> np.ndarray:
        """One weight, of a file that is still what it was when it was listed."""
        with np.load(io.BytesIO(self._file(step).whole())) as arrays:
            if data != "weights" or site not in arrays:
                raise DataError(f"run {self.run!r} holds no {split or ''} {data} at site {site!r} in step {step}")
            array: np.ndarray = arrays[site]
            return array

    def inputs(self, step: int, *_tensor: object) -> tuple[Input, ...]:
        """The file, whatever is read of it."""
        file = self._file(step)
        return (Input(file.path.name, file.sha256),)

    def samples(self, step: int, split: str) -> NoReturn:
        """None: there are no activations."""
        raise DataError(f"run {self.run!r} holds weights alone, so step {step} has no {split} samples")

    def evaluations(self) -> Mapping[int, Mapping[str, float]]:
        """None are kept in such a folder."""
        return {}

    def provenance(self, step: int) -> dict[str, str]:
        """Which file the numbers come from."""
        return {"path": str(self._file(step).path.resolve())}

    def _file(self, step: int) -> CheckedFile:
        if step not in self._files:
            raise DataError(f"run {self.run!r} has no step {step}")
        return self._files[step]


def _recognises(location: str) -> bool:
    return (Path(location) / MODEL).is_file() and any(Path(location).glob(STEPS))


def _open(location: str, _options: ReadOptions) -> NpzStore:
    return NpzStore(Path(location))


def _changed(path: Path) -> float | None:
    return path.stat().st_mtime if _recognises(str(path)) else None


NPZ = StoreSpec(
    name="npz",
    title="a folder of .npz files",
    sign=f"{MODEL} with {STEPS} (npz)",
    recognises=_recognises,
    open=_open,
    changed=_changed,
    thread_safe=True,
)
