"""The coordinate check is flat over four widths under μP, and not without it."""

from __future__ import annotations

import json

import pytest

from pico_train.config import layers
from pico_train.errors import ConfigError
from pico_train.training import coordinates
from pico_train.training.coordinates import FLAT, Change, Coordinates, check_coordinates, default_widths

SMALL = ["model.n_layers=2", "model.n_heads=2", "model.n_kv_heads=1", "model.vocab_size=64"]
WIDTHS = (16, 32, 64, 128)


def small(*more: str):
    return layers.load_config(set=[*SMALL, *more])


@pytest.mark.parametrize("name", ["adamw", "muon", "sgd"])
def test_it_is_flat_under_mup_and_not_without(name, monkeypatch):
    monkeypatch.setattr(coordinates, "TOKENS", 16)
    rate = "0.3" if name == "sgd" else "0.003"
    found = check_coordinates(
        small(f"training.optimizer.name={name}", f"training.optimizer.lr={rate}"), WIDTHS, steps=3
    )
    assert found.sites == ["embed", *(f"layers.1.{kind}" for kind in ("attn.q", "attn.o", "mlp.down", "resid")), "head"]
    assert found.is_flat("mup") and not found.is_flat("none")
    assert found.exponent("none", "head") > 0.5 and found.exponent("none", "layers.1.resid") > 0.7


def test_at_the_base_the_rule_changes_nothing(monkeypatch):
    monkeypatch.setattr(coordinates, "TOKENS", 8)
    found = check_coordinates(small(), (16, 32), steps=1)
    sizes = {(c.rule, c.width, c.site): c.size for c in found.changes}
    assert all(sizes["mup", 16, site] == sizes["none", 16, site] for site in found.sites)
    assert any(sizes["mup", 32, site] != sizes["none", 32, site] for site in found.sites)


def test_an_exponent_is_that_of_a_power_of_the_width():
    powers = {"mup": 0.0, "none": 1.5}
    made = [
        Change(rule, "head", w, s, s * 3.0 * w**power) for rule, power in powers.items() for w in WIDTHS for s in (1, 2)
    ]
    found = Coordinates(tuple(made))
    assert found.exponent("mup", "head") == pytest.approx(0) and found.exponent("none", "head") == pytest.approx(1.5)
    assert found.is_flat("mup") and not found.is_flat("none")
    assert 0 < FLAT < 0.5


def test_widths_are_those_that_the_heads_divide():
    assert default_widths(layers.load_config()) == [32, 64, 128, 256]
    assert default_widths(layers.load_config(preset="tiny")) == [48, 96, 192, 384]
    with pytest.raises(ConfigError, match="width 33 is not possible: d_model=33 is not divisible by n_heads=2"):
        check_coordinates(small(), (33, 66), steps=1)
    with pytest.raises(ConfigError, match=r"not defined for training\.optimizer\.name=adafactor"):
        check_coordinates(small("training.optimizer.name=adafactor"), WIDTHS, steps=1)


def test_the_command_says_so_and_draws_it(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from pico_train.cli import app

    monkeypatch.setattr(coordinates, "TOKENS", 8)
    pytest.importorskip("matplotlib")
    picture = tmp_path / "check.png"
    sets = [word for each in SMALL for word in ("--set", each)]
    line = ["check", "mup", *sets, "--widths", "16,32,64", "--steps", "3", "--picture", str(picture)]
    done = CliRunner().invoke(app.app, [*line, "--format", "json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["flat"] is True and said["picture"] == str(picture) and len(said["exponents"]) == 6
    assert picture.read_bytes()[:4] == b"\x89PNG"
    for widths, why in (("64,32", "ascending"), ("a,b", "whole numbers with commas"), ("32", "two or more")):
        refused = CliRunner().invoke(app.app, ["check", "mup", "--widths", widths])
        assert refused.exit_code == 2 and why in refused.output
    nowhere = CliRunner().invoke(app.app, ["check", "mup", "--picture", str(tmp_path / "no/check.png")])
    assert nowhere.exception is not None and "there is no directory" in str(nowhere.exception)
