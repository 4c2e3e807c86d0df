"""The study that answers "what happened in this run?": chosen by what the run holds and by its size.

It asks for what is cheap at any size (norms, spectra of heads, which are factored) and bounds the rest: checkpoints,
layers, and the work of singular values of weights. What was left out is said, and each choice is one that a study file
can make: `pico-analyze run overview` prints it.
"""

from __future__ import annotations

from collections.abc import Sequence

from pico_analyze.counting import counted
from pico_analyze.errors import DataError
from pico_analyze.questions.study_schema import StudyConfig, validated
from pico_analyze.stores.base import SplitInfo, StepInfo, Store
from pico_analyze.stores.sites import MatrixSite
from pico_schema import ModelSpec

NAME = "overview"
MOST_STEPS, MOST_LAYERS = 32, 12
WORK = 2e11
"""Bound of Σ n·p·min(n, p) over the weights of which singular values are taken. Half a minute of one AMD EPYC core:
25 s as matrices of 768 × 3,072, 39 s as those of 1,536 × 1,536."""
_FEWEST_STEPS = 8
_DEFAULT_SITES = ("attn.v", "attn.o", "mlp.down")


def overview(run: Store, *, growing: bool = False) -> tuple[StudyConfig, list[str]]:
    """The study of a run, and a line for each thing that its size left out.

    Args:
        run: An open run of any kind.
        growing: Whether further steps will come: each is then compared with the first, which stays the same.

    Raises:
        DataError: the run has no checkpoint with anything to measure.
    """
    infos = run.steps()
    weights = [info for info in infos if info.weights]
    notes: list[str] = []
    measurements: list[dict[str, object]] = []
    for split in ("val", "train"):
        captured = [info for info in infos if info.sites("activations", split)]
        if captured:
            if len(captured) < len(infos):
                notes.append(f"{len(captured)} of {len(infos)} checkpoints hold {split} activations")
            measurements += _of_activations(captured, split, notes, captured[0 if growing else -1].step, len(infos))
            break
    graded = [info for info in infos if any(held.gradients for held in info.splits.values())]
    if weights:
        measurements += _of_weights(run.spec(weights[-1].step), weights, notes, len(infos))
    if graded:
        measurements += _of_gradients(graded, notes, len(infos))
    if not measurements:
        raise DataError(f"run {run.run!r} has no checkpoint with weights or captures: there is nothing to measure")
    return validated(StudyConfig, {"name": NAME, "measurements": measurements}), notes


def _of_activations(
    infos: Sequence[StepInfo], split: str, notes: list[str], target: int, every: int
) -> list[dict[str, object]]:
    steps = _steps(infos, MOST_STEPS, "activations", notes, every)
    common = {"data": ["activations"], "splits": [split], "steps": steps}
    described: dict[str, object] = {"metrics": ["effective_rank"], **common}
    # Samples of the training batch differ from step to step: there is nothing to compare.
    compared: dict[str, object] = {"metrics": ["cka"], "target": target, **common}
    return [compared, described] if split == "val" and len(infos) > 1 else [described]


def _of_weights(spec: ModelSpec, infos: Sequence[StepInfo], notes: list[str], every: int) -> list[dict[str, object]]:
    held = [MatrixSite.parse(name) for name in infos[-1].weights]
    kinds = {site.kind for site in held}
    sites = [kind for kind in _DEFAULT_SITES if kind in kinds] or sorted(kinds)
    layers = sorted({site.layer for site in held if site.layer is not None})
    chosen = _evenly(layers, MOST_LAYERS)
    if len(chosen) < len(layers):
        notes.append(f"spectra of weights in {len(chosen)} of {len(layers)} layers: {', '.join(map(str, chosen))}")
    work = len(chosen) * sum(_work(spec, kind) for kind in sites)
    most = max(_FEWEST_STEPS, min(MOST_STEPS, int(WORK / max(work, 1))))
    if work * _FEWEST_STEPS > WORK:
        notes.append(
            f"spectra of weights are costly at this size ({spec.d_model:,} wide): "
            f"{counted(min(most, len(infos)), 'checkpoint')}"
        )
    spectra: dict[str, object] = {
        "data": ["weights"],
        "sites": sites,
        "layers": chosen if len(chosen) < len(layers) else None,
        "steps": _steps(infos, most, "spectra", notes, every),
    }
    found: list[dict[str, object]] = [
        {"metrics": ["norm"], "data": ["weights"], "steps": _steps(infos, MOST_STEPS, "norms", notes, every)},
        {"metrics": ["effective_rank"], **spectra},
    ]
    if {"attn.v", "attn.o"} <= kinds and layers:
        heads = {**spectra, "components": ["ov_circuit"]}
        del heads["sites"]
        found.append({"metrics": ["effective_rank"], **heads})
    return found


def _of_gradients(infos: Sequence[StepInfo], notes: list[str], every: int) -> list[dict[str, object]]:
    split = "train" if any(info.splits.get("train", _NOTHING).gradients for info in infos) else "val"
    steps = _steps(infos, MOST_STEPS, "gradients", notes, every)
    return [{"metrics": ["norm"], "data": ["gradients"], "splits": [split], "steps": steps}]


def _steps(infos: Sequence[StepInfo], most: int, what: str, notes: list[str], every: int) -> list[int] | None:
    """The steps of a measurement; None for all of the run's `every` checkpoints, as nobody names what is not chosen."""
    known = [info.step for info in infos]
    chosen = _evenly(known, most)
    if len(chosen) < len(known):
        notes.append(f"{what} at {len(chosen)} of {len(known)} checkpoints, evenly chosen")
    return chosen if len(chosen) < every else None


def _evenly(known: Sequence[int], most: int) -> list[int]:
    """`most` of these, the first and the last among them."""
    if len(known) <= most:
        return list(known)
    return [known[round(i * (len(known) - 1) / (most - 1))] for i in range(most)]


def _work(spec: ModelSpec, kind: str) -> float:
    """n·p·min(n, p) of one weight."""
    wide, other = spec.d_model, spec.d_ff if kind.startswith("mlp") else spec.q_dim
    if kind in ("attn.k", "attn.v"):
        other = spec.kv_dim
    return float(wide * other * min(wide, other))


_NOTHING = SplitInfo()
