"""What the file of a suite means: members, their names and configurations; and what is refused, in one sentence."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pico_train.config import layers
from pico_train.config.suites import Suite, batches, load_suite
from pico_train.errors import ConfigError, PicoTrainError

BASE = {"preset": "demo", "training": {"max_steps": 4, "batch_size": 4}}


def made(directory: Path, **content: Any) -> Suite:
    """The suite of a file with this content over a base."""
    file = directory / "family.yaml"
    file.write_text(yaml.safe_dump({"base": BASE, **content}, sort_keys=False), encoding="utf-8")
    return load_suite(file)


def test_members_are_all_combinations_in_the_order_of_the_file(tmp_path: Path) -> None:
    suite = made(tmp_path, axes={"size": ["tiny", "small"], "seed": [1, 2]})
    assert suite.name == "family"
    assert [member.name for member in suite.members] == ["tiny-seed1", "tiny-seed2", "small-seed1", "small-seed2"]
    first = suite.members[0]
    assert dict(first.coordinates) == {"size": "tiny", "seed": 1}
    assert (first.config.name, first.config.out) == ("tiny-seed1", "runs/family")
    assert (first.config.seed, first.config.model.d_model, first.config.training.max_steps) == (1, 96, 4)
    # what the preset says besides its size is the base's: the data of the demo
    assert (first.config.data.source, first.config.training.optimizer.lr) == ("stdlib", 3e-3)
    # the preset's micro-batch of 32 is for a batch of 1,024
    assert first.config.training.micro_batch_size == 4


def test_a_member_is_the_run_that_the_command_line_makes_of_the_same_settings(tmp_path: Path) -> None:
    suite = made(tmp_path, axes={"lr": [1e-3, 3e-3], "schedule": ["wsd", "cosine"], "weights_seed": [7]})
    member = suite.members[2]
    assert member.name == "lr0.003-wsd-weights_seed7"
    settings = ["training.max_steps=4", "training.batch_size=4", "training.optimizer.lr=0.003"]
    settings += ["training.schedule.name=wsd", "training.init_seed=7"]
    assert member.config == layers.load_config(set=settings, name=member.name, out="runs/family")


def test_values_with_names_have_settings_of_their_own_and_templates_name_members(tmp_path: Path) -> None:
    sizes = {"s": {"model": {"d_model": 64}}, "t": {"preset": "tiny", "training": {"optimizer": {"lr": 1e-4}}}}
    suite = made(tmp_path, axes={"width": sizes, "data_seed": [3]}, names="m{data_seed}_{width}")
    assert [(m.name, m.config.model.d_model, m.config.data.seed) for m in suite.members] == [
        ("m3_s", 64, 3),
        ("m3_t", 96, 3),
    ]
    assert suite.members[1].config.training.optimizer.lr == 1e-4


def test_what_is_excluded_is_no_member(tmp_path: Path) -> None:
    axes = {"size": ["tiny", "small"], "seed": [1, 2, 3]}
    suite = made(tmp_path, axes=axes, exclude=[{"size": "small", "seed": [2, 3]}, {"seed": 1, "size": "tiny"}])
    assert [member.name for member in suite.members] == ["tiny-seed2", "tiny-seed3", "small-seed1"]


def test_the_base_may_be_the_file_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("preset: demo\ntraining: {max_steps: 7, batch_size: 2}\n", encoding="utf-8")
    suite = made(tmp_path, base={"config": "run.yaml", "training": {"batch_size": 8}}, axes={"seed": [1]})
    assert (suite.members[0].config.training.max_steps, suite.members[0].config.training.batch_size) == (7, 8)


@given(
    sizes=st.lists(st.integers(1, 50), min_size=1, max_size=4, unique=True),
    seeds=st.lists(st.integers(0, 2**40), min_size=1, max_size=4, unique=True),
)
def test_members_differ_in_their_coordinates_alone(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], seeds: list[int]
) -> None:
    axes = {"training.max_steps": sizes, "seed": seeds}
    suite = made(tmp_path_factory.mktemp("suite"), axes=axes)
    assert len({member.name for member in suite.members}) == len(sizes) * len(seeds)
    for a, b in itertools.combinations(suite.members, 2):
        if a.config.seed == b.config.seed:  # the order of the data follows the seed alone
            assert batches(a.config) == batches(b.config)
        alike = {"name": "x", "seed": 0, "training": BASE}
        assert a.config.model_copy(update=alike) == b.config.model_copy(update=alike)


REFUSED = {
    "an axis that is no setting": (
        {"axes": {"lrr": [1]}},
        r"family\.yaml, line \d+: axes\.lrr: there is no such setting; did you mean 'lr'",
    ),
    "an axis that several settings are called": (
        {"axes": {"batch_size": [1]}},
        r"several settings are called so: write one of training\.batch_size, evaluation\.batch_size",
    ),
    "an axis that is the name": ({"axes": {"name": ["a"]}}, "it is no axis"),
    "an axis that a column is called": ({"axes": {"step": {"a": {}}}}, "a column of every table is"),
    "no values": ({"axes": {"seed": []}}, "write a list of values"),
    "one value twice": ({"axes": {"seed": [1, 1]}}, "axes.seed: 1 is there twice"),
    "values without a name": ({"axes": {"captures.sites": [["attn.v"]]}}, "give it a name"),
    "a value that the setting does not take": ({"axes": {"seed": [-1]}}, "member seed-1: seed: input should be"),
    "an unknown preset": ({"axes": {"size": ["tny"]}}, "no preset is called 'tny'; did you mean 'tiny'"),
    "an unknown key": ({"axes": {"seed": [1]}, "nmes": "x"}, "unknown key 'nmes'; did you mean 'names'"),
    "an unknown setting of the base": ({"base": {"trainin": {}}, "axes": {"seed": [1]}}, "did you mean 'training'"),
    "two members with one name": (
        {"axes": {"seed": [1, 2], "lr": [0.1]}, "names": "m-{lr}"},
        r"two members are called 'm-0\.1' \(seed=1, lr=0\.1 and seed=2, lr=0\.1\): add \{seed\} to names",
    ),
    "a template of no axis": ({"axes": {"seed": [1]}, "names": "m-{sed}"}, "{sed} is no axis; did you mean 'seed'"),
    "a name that no directory can have": ({"axes": {"seed": [1]}, "names": "a/{seed}"}, "cannot be used"),
    "an exclusion of no axis": ({"axes": {"seed": [1]}, "exclude": [{"sed": 1}]}, "'sed' is no axis; did you mean"),
    "an exclusion of no value": ({"axes": {"seed": [1]}, "exclude": [{"seed": 3}]}, "has no value 3: it has 1"),
    "nothing left": ({"axes": {"seed": [1]}, "exclude": [{"seed": 1}]}, "exclude leaves no member"),
    "orders that differ where they are to be shared": (
        {"axes": {"seed": [1, 2]}, "shared_batches": True},
        "seed1 and seed2 would not see the same batches: the seed of the data's order is",
    ),
    "batches that differ where they are to be shared": (
        {"axes": {"training.batch_size": [2, 4], "seed": [1]}, "shared_batches": ["training.batch_size"]},
        "would not see the same batches: training.batch_size is 2 for one and 4 for the other",
    ),
    "too many": ({"axes": {"seed": [*range(101)], "lr": [0.01 * n for n in range(1, 101)]}}, "10,100 combinations"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_in_one_sentence(tmp_path: Path, case: str) -> None:
    content, said = REFUSED[case]
    with pytest.raises(ConfigError) as refused:
        made(tmp_path, **content)
    message = str(refused.value)
    assert re.search(said, message) or said in message, message
    assert "\n" not in message


def test_seeds_of_data_and_weights_are_axes_of_their_own(tmp_path: Path) -> None:
    suite = made(tmp_path, axes={"data_seed": [1, 2], "weights_seed": [1, 2]}, shared_batches="weights_seed")
    seeds = {(m.config.sub_seed("data"), m.config.sub_seed("weights")) for m in suite.members}
    assert seeds == {(1, 1), (1, 2), (2, 1), (2, 2)}


def test_a_file_that_is_no_suite_says_so(tmp_path: Path) -> None:
    for text in ("", "axes", "training: {max_steps: 3}", "axes: []\n"):
        file = tmp_path / "x.yaml"
        file.write_text(text, encoding="utf-8")
        with pytest.raises(PicoTrainError, match="axes"):
            load_suite(file)
