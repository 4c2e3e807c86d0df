"""Configurations: what a layer overrides, what is refused, and in which words."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pico_train.config import RunConfig, describe, layers
from pico_train.errors import ConfigError, UsageError

PARAMETERS = {  # by hand from the dimensions: 2·V·d + layers·(2·d² + 2·d·kv + 3·d·ff + 2·d) + d
    "demo": 2 * 4096 * 128 + 4 * (2 * 128**2 + 2 * 128 * 64 + 3 * 128 * 512 + 256) + 128,
    "induction": 2 * 959 * 64 + 2 * (2 * 64**2 + 2 * 64 * 64 + 3 * 64 * 128 + 128) + 64,
    "tiny": 2 * 50304 * 96 + 12 * (2 * 96**2 + 2 * 96 * 32 + 3 * 96 * 384 + 192) + 96,
    "small": 2 * 50304 * 384 + 12 * (2 * 384**2 + 2 * 384 * 128 + 3 * 384 * 1536 + 768) + 384,
    "medium": 2 * 50304 * 768 + 12 * (2 * 768**2 + 2 * 768 * 256 + 3 * 768 * 3072 + 1536) + 768,
    "large": 2 * 50304 * 1536 + 12 * (2 * 1536**2 + 2 * 1536 * 512 + 3 * 1536 * 6144 + 3072) + 1536,
    "xl": 2 * 50304 * 2304 + 12 * (2 * 2304**2 + 2 * 2304 * 768 + 3 * 2304 * 9216 + 4608) + 2304,
}
PUBLISHED = {"tiny": 11.3e6, "small": 65e6, "medium": 181e6, "large": 570e6}


@pytest.mark.parametrize("name", layers.presets())
def test_a_preset_has_the_parameters_it_says(name: str) -> None:
    n_params = layers.load_config(preset=name).spec.n_params
    assert n_params == PARAMETERS[name]
    if name in PUBLISHED:
        assert n_params == pytest.approx(PUBLISHED[name], rel=0.01)


def test_the_largest_has_more_than_a_billion() -> None:
    assert layers.load_config(preset="xl").spec.n_params > 1e9


def test_the_demo_has_one_to_two_and_a_half_million() -> None:
    assert 1e6 <= layers.load_config(preset="demo").spec.n_params <= 2.5e6


def test_sizes_differ_in_size_alone() -> None:
    family = [name for name in layers.presets() if name not in ("demo", "induction")]
    trees = {name: layers.load_config(preset=name).model_dump() for name in family}
    for tree in trees.values():
        for size in ("d_model", "d_ff"):
            tree["model"].pop(size)
        tree["training"].pop("micro_batch_size")
        tree.pop("name")
    assert len(family) == 5
    assert all(tree == trees["tiny"] for tree in trees.values())


def test_a_file_lies_over_a_preset_and_set_over_both(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("preset: tiny\ntraining: {max_steps: 9000, batch_size: 64}\n")
    config = layers.load_config(file, set=["training.batch_size=32", "training.optimizer.lr=3e-4"])
    assert config.model.d_model == 96
    assert config.training.max_steps == 9000
    assert config.training.batch_size == 32
    assert config.training.optimizer.lr == 3e-4


def test_what_is_shown_can_be_run_again(tmp_path: Path) -> None:
    config = layers.load_config(preset="small", set=["captures.val.positions=all", "checkpoint.keep.last=3"])
    (tmp_path / "shown.yaml").write_text(layers.to_yaml(config))
    assert layers.load_config(tmp_path / "shown.yaml") == config


@pytest.mark.parametrize(
    ("assignment", "says"),
    [
        ("trainning.max_steps=3", "unknown setting 'trainning'; did you mean 'training'"),
        ("training.max_step=3", "unknown setting 'training.max_step'; did you mean 'max_steps'"),
        ("max_steps=3", "did you mean 'training.max_steps'"),
        ("training.optimizer.gamma=1", "unknown setting 'training.optimizer.gamma'"),
        ("training.max_steps=many", "training.max_steps: input should be a valid integer"),
        ("training.max_steps=-1", "training.max_steps: input should be greater than 0, but it is -1"),
        ("training.precision=fp8", "training.precision: input should be '32-true'"),
        ("model.d_model=126", "d_model=126 is not divisible by n_heads=4: choose d_model=128"),
        ("model.n_kv_heads=3", "n_kv_heads must be one of 1, 2, 4"),
        ("training.micro_batch_size=5", "does not divide training.batch_size=16: 4 would"),
        ("training.schedule.warmup_steps=100000", "leaves nothing of training.max_steps"),
        ("data.source=text", "needs data.paths"),
        ("data.source=hub", "needs data.repo"),
        ("captures.sites=[attn.w]", "did you mean 'attn."),
        ("name=../x", "run name '../x' cannot be used"),
        ("training=3", "training: input should be a valid dictionary"),
    ],
)
def test_a_mistake_names_key_value_and_fix_in_one_line(assignment: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        layers.load_config(set=[assignment])
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_mistakes_are_both_named() -> None:
    with pytest.raises(ConfigError, match=r"seed: .*; training\.max_steps"):
        layers.load_config(set=["training.max_steps=0", "seed=-1"])


@pytest.mark.parametrize("assignment", ["x", "=3", "a..b=3", "training.max_steps=[1"])
def test_what_is_no_assignment_says_how_to_write_one(assignment: str) -> None:
    with pytest.raises(UsageError, match="--set"):
        layers.load_config(set=[assignment])


def test_an_unknown_preset_suggests_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'medium': presets are demo, induction, tiny, small"):
        layers.load_config(preset="meduim")


@pytest.mark.parametrize(
    ("content", "says"),
    [("a: [1", "line 1: not valid YAML"), ("- 1\n", "expected sections"), ("nonsense: 1\n", "unknown setting")],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, content: str, says: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=says):
        layers.load_config(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        layers.load_config(tmp_path / "none.yaml")


def test_every_setting_has_a_help_text() -> None:
    helps = describe.fields()
    assert len(helps) > 70
    assert [name for name, text in helps.items() if not text] == []
    assert all(describe.choices(name) for name in helps)


def test_weights_and_data_have_seeds_of_their_own() -> None:
    config = layers.load_config()
    assert config.sub_seed("weights") != config.sub_seed("data")
    other = layers.load_config(set=["seed=1"])
    assert other.sub_seed("weights") != config.sub_seed("weights")
    pinned = layers.load_config(set=["seed=1", f"data.seed={config.sub_seed('data')}"])
    assert pinned.sub_seed("data") == config.sub_seed("data")
    assert pinned.sub_seed("weights") == other.sub_seed("weights")


def test_the_default_needs_no_network() -> None:
    config = layers.load_config()
    assert config.data.source == "stdlib"
    assert config.publish.repo is None
    assert config.monitoring.wandb.mode == "disabled"


def test_presets_are_complete_yaml_in_the_package() -> None:
    raw = layers.preset_values("large")
    assert "extends" not in raw
    assert RunConfig.model_validate(yaml.safe_load(yaml.safe_dump(raw))).model.d_model == 1536


@pytest.mark.parametrize(
    ("assignment", "says"),
    [
        ("distributed.devices=many", "input should be a valid integer or 'auto', but it is the text 'many'"),
        ("training.loss_chunk=many", "input should be 'auto' or a valid integer, but it is the text 'many'"),
        ("training.loss_chunk=-3", "input should be 'auto' or greater than or equal to 0, but it is -3"),
    ],
)
def test_a_value_that_could_be_several_things_is_one_mistake(assignment, says):
    with pytest.raises(ConfigError) as refused:
        layers.load_config(set=[assignment])
    assert str(refused.value) == f"{assignment.partition('=')[0]}: {says}"
