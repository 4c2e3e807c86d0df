"""The overview: what it asks of a run by what it holds, and what its size leaves out."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from synthetic import make_run

import pico_analyze
from pico_analyze.errors import DataError, UsageError
from pico_analyze.questions.overview import MOST_LAYERS, MOST_STEPS, overview
from pico_analyze.questions.study import load_studies
from pico_analyze.stores.base import SplitInfo, StepInfo
from pico_schema import ModelSpec
from pico_schema.sites import KINDS, expand


@dataclass
class Held:
    """A store of which only the listing is asked."""

    infos: tuple[StepInfo, ...]
    geometry: ModelSpec
    run: str = "big"
    kind: str = "pico"
    location: str = "big"
    read: list[str] = field(default_factory=list)

    def steps(self):
        return self.infos

    def spec(self, _step):
        return self.geometry


def held(layers: int, width: int, steps: int, *, weights=True, captured=True) -> Held:
    spec = ModelSpec(
        vocab_size=64, d_model=width, n_layers=layers, n_heads=width // 64, n_kv_heads=width // 64, d_ff=4 * width
    )
    names = tuple(str(site) for site in expand(KINDS, layers) if site.has_weight) if weights else ()
    sites = tuple(str(site) for site in expand(("attn.v", "attn.o", "mlp.down"), layers))
    splits = {"val": SplitInfo(activations=sites, gradients=sites)} if captured else {}
    return Held(tuple(StepInfo(step, "d", weights=names, splits=splits) for step in range(steps)), spec)


def asked(store) -> dict[tuple[str, str, str], dict]:
    config, _ = overview(store)
    return {
        (one.metrics[0].name, one.components[0].name, (one.data or [""])[0]): one.model_dump()
        for one in config.measurements
    }


def test_a_small_run_is_asked_everything_of_everything():
    found = asked(held(4, 128, 10))
    assert set(found) == {
        ("cka", "simple", "activations"),
        ("effective_rank", "simple", "activations"),
        ("norm", "simple", "weights"),
        ("effective_rank", "simple", "weights"),
        ("effective_rank", "ov_circuit", "weights"),
        ("norm", "simple", "gradients"),
    }
    assert found["cka", "simple", "activations"]["target"] == 9
    assert {(one["steps"], one["layers"]) for one in found.values()} == {(None, None)}, "all, by no name of a file"
    assert overview(held(4, 128, 10))[1] == []


def test_many_checkpoints_layers_and_wide_layers_are_thinned_and_that_is_said():
    config, notes = overview(held(48, 1536, 200))
    norms = next(one for one in config.measurements if one.metrics[0].name == "norm" and one.data == ["weights"])
    spectra = next(one for one in config.measurements if one.data == ["weights"] and one.sites)
    assert isinstance(norms.steps, list) and isinstance(spectra.steps, list) and isinstance(spectra.layers, list)
    assert len(norms.steps) == MOST_STEPS and (norms.steps[0], norms.steps[-1]) == (0, 199)
    assert len(spectra.steps) == 8 and (spectra.steps[0], spectra.steps[-1]) == (0, 199)
    assert len(spectra.layers) == MOST_LAYERS and (spectra.layers[0], spectra.layers[-1]) == (0, 47)
    text = "\n".join(notes)
    assert "spectra of weights in 12 of 48 layers" in text and "at 8 of 200 checkpoints" in text
    assert "spectra of weights are costly at this size (1,536 wide): 8 checkpoints" in text


def test_runs_of_weights_alone_and_of_captures_alone_have_an_overview_too():
    assert {data for _, _, data in asked(held(2, 64, 3, captured=False))} == {"weights"}
    assert {data for _, _, data in asked(held(2, 64, 3, weights=False))} == {"activations", "gradients"}


def test_a_run_with_nothing_to_measure_says_so():
    with pytest.raises(DataError, match="no checkpoint with weights or captures"):
        overview(held(2, 64, 3, weights=False, captured=False))


def test_each_run_has_an_overview_of_its_own(runs: Path):
    make_run(runs, "a", steps=(0, 1, 2))
    make_run(runs, "b", steps=(0, 8), seed=7)
    studies, notes = load_studies(Path("overview"), ["a", "b"])
    assert [(one.config.measurements[0].target, [Path(run).name for run in of]) for one, of in studies] == [
        (2, ["a"]),
        (8, ["b"]),
    ]
    assert notes == []
    frame = pico_analyze.study("overview", ["a", "b"])
    assert frame.groupby("run")["step"].unique().map(sorted).to_dict() == {"a": [0, 1, 2], "b": [0, 8]}
    with pytest.raises(UsageError, match=r"a@2: the overview is of a run over its steps: name the run without a step"):
        load_studies(Path("overview"), ["a@2"])


def test_run_without_arguments_tells_what_happened_in_the_newest_run(runs: Path, pico):
    make_run(runs, "newest")
    answer = pico("run", "--no-plot")
    assert answer.code == 0
    assert answer.out.startswith("- ") and "[1] " in answer.out
    assert "  metric " in answer.out and "halfway" in answer.out
    assert len(answer.out.splitlines()) < 70
    pictures = pico("run").err.splitlines()[-1]
    assert "cka-simple-val-activations-to-8.png" in pictures and "steps=" not in pictures and "layers=" not in pictures
    assert "analysis/newest: rows.parquet" in answer.err
    tables = pico("run", "overview", "--no-plot", "--tables")
    assert tables.code == 0 and "layer 0" in tables.out and not tables.out.startswith("- ")
    rows = pico("run", "--no-plot", "--format", "csv")
    assert rows.out.startswith("run,step,") and rows.code == 0
    assert pico("run", "newest@8").code == 2
