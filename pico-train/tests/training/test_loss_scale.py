"""float16 with a loss scaler: overflow lowers the scale and leaves an update out; it is not what stops a run."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from safetensors.torch import load_file
from support.closeness import relative_distance
from support.tiny import config as tiny
from support.training_runs import as_text, logged, train_in_float16, train_until, what_a_step_holds
from support.worlds import launch

from pico_schema import documents, layout
from pico_train.checkpoint.consumed import Consumed
from pico_train.config import layers
from pico_train.data.loader import Batch
from pico_train.training import engine, loop
from pico_train.training.step import Measured

NEVER = [f"{section}.{key}" for section in ("checkpoint.weights", "checkpoint.training_state", "checkpoint.captures",
         "evaluation.cadence") for key in ("early=null", "every=null", "last=false")]  # fmt: skip
SMALL = ["model.d_model=16", "model.d_ff=32", "model.n_layers=1", "model.vocab_size=64", "data.seq_len=8"]


ROWS = np.random.default_rng(0).integers(0, 64, (4, 9)).astype(np.int32)


def trained(scaler: torch.amp.GradScaler | None, steps: int = 30, *changes: str):
    """An engine on one small batch, in float16 if there is a scaler: what each step measured, scales and weights."""
    plugin = MixedPrecision("16-mixed", "cpu", scaler=scaler) if scaler is not None else None
    fabric = Fabric(accelerator="cpu", devices=1, plugins=plugin)
    fabric.launch()
    wanted = [f"training.max_steps={steps}", "training.schedule.warmup_steps=2", "training.batch_size=4"]
    config = layers.load_config(set=[*SMALL, *wanted, *NEVER, *changes])
    made = engine.set_up(fabric, config, config.spec)
    before = {name: weight.detach().clone() for name, weight in made.decoder.named_parameters()}
    tensor = torch.from_numpy(ROWS).long()
    batches = [Batch(step, tensor, np.arange(4), None, ROWS, Consumed()) for step in range(steps + 1)]  # type: ignore[arg-type]
    seen: list[Measured] = []
    scales: list[float] = []

    def record(measured: Measured) -> None:
        seen.append(measured)
        scales.append(scaler.get_scale() if scaler is not None else 1.0)

    loop.fit(made, config, batches, tensor, record=record, save=lambda _: None)
    moved = {name: weight.detach() - before[name] for name, weight in made.decoder.named_parameters()}
    return seen, scales, moved


def test_an_overflow_halves_the_scale_until_updates_are_made() -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    seen, scales, _ = trained(scaler)
    skipped = [measured.step for measured in seen if measured.skipped]
    assert skipped == list(range(len(skipped))) and 5 < len(skipped) < 30
    assert scales[: len(skipped)] == [2.0 ** (39 - n) for n in range(len(skipped))]
    assert set(scales[len(skipped) :]) == {2.0 ** (40 - len(skipped))}
    assert seen[0].loss == seen[len(skipped)].loss, "the weights were left alone"
    assert seen[-1].loss is not None and seen[0].loss is not None and seen[-1].loss < seen[0].loss


@pytest.mark.parametrize("scale", [1.0, 2.0**10])
def test_clipping_and_updates_are_those_of_the_unscaled_gradient(scale: float) -> None:
    """AdamW forgives a gradient of another size unless epsilon is large; what is left is float16's rounding."""
    changes = ["training.optimizer.eps=1e-2", "training.grad_clip=0.5", "training.optimizer.lr=1e-2"]
    seen, _, moved = trained(torch.amp.GradScaler("cpu", init_scale=scale), 10, *changes)
    expected, _, wanted = trained(None, 10, *changes)
    norms = [measured.grad_norm for measured in expected]
    assert min(norms) > 0.5, "clipping is at work"
    assert [measured.grad_norm for measured in seen] == pytest.approx(norms, rel=8 * torch.finfo(torch.float16).eps)
    for name, weight in wanted.items():
        assert relative_distance(moved[name], weight) < 0.05, name


def test_the_scale_grows_after_so_many_good_steps_in_a_row() -> None:
    _, scales, _ = trained(torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=3), 9)
    assert scales == [4.0, 4.0, 8.0, 8.0, 8.0, 16.0, 16.0, 16.0, 32.0, 32.0]


def test_a_loss_that_is_not_finite_is_skipped_without_touching_the_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    accumulate, calls = loop.accumulate, [0]

    def sometimes(*args, **kwargs):
        calls[0] += 1
        return accumulate(*args, **kwargs) * (float("nan") if calls[0] in (3, 4) else 1.0)

    monkeypatch.setattr(loop, "accumulate", sometimes)
    seen, scales, _ = trained(torch.amp.GradScaler("cpu", init_scale=4.0), 6, "training.on_nonfinite=skip")
    assert [measured.step for measured in seen if measured.skipped] == [2, 3]
    assert set(scales) == {4.0}


@pytest.fixture(scope="module")
def undisturbed(text, tmp_path_factory):
    out = tmp_path_factory.mktemp("float16")
    assert launch(train_in_float16, tiny(out, text)) == [0]
    return out / "tiny"


def test_the_scale_and_its_age_survive_a_resume(text, tmp_path, undisturbed):
    settings = tiny(tmp_path, text)
    assert launch(train_in_float16, settings, 5) == [143]
    assert launch(train_in_float16, settings) == [0]
    for step in (0, 3, 6, 9, 12, 14):
        ours, theirs = (what_a_step_holds(run, step) for run in (tmp_path / "tiny", undisturbed))
        assert as_text(ours) == as_text(theirs), step
    assert json.dumps(logged(tmp_path / "tiny")) == json.dumps(logged(undisturbed))
    ages = [what_a_step_holds(undisturbed, step)["training state"]["scaler"]["_growth_tracker"] for step in (3, 6, 9)]
    assert len(set(ages)) > 1, "there is an age to be lost"


def test_captures_are_finite_however_large_the_scale_was(text, tmp_path, undisturbed):
    """At step 0 the scale is 2^40: the passes that are captured are repeated under smaller ones."""
    assert launch(train_until, tiny(tmp_path, text, training__max_steps=4)) == [0]
    directory, single = (run / layout.checkpoint_dir(0) for run in (undisturbed, tmp_path / "tiny"))
    manifest = documents.read_checkpoint(directory)
    assert [capture.split for capture in manifest.captures] == ["train", "val"]
    for capture in manifest.captures:
        found, expected = load_file(directory / capture.file), load_file(single / capture.file)
        assert found.keys() == expected.keys()
        for name, tensor in found.items():
            assert relative_distance(tensor, expected[name]) < 0.02, name
    assert logged(undisturbed)[0].get("skipped") is None, "and the update of that step is made"
