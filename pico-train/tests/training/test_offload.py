"""`distributed.offload` changes where what FSDP2 shards is kept, and no bit of it.

Where devices are CPUs, as here, that is one place: what it does on a GPU these tests do not see.
"""

from __future__ import annotations

import pytest
from support.closeness import largest_difference
from support.tiny import config
from support.training_runs import logged, train_until, weights
from support.worlds import launch

from pico_train.config import layers
from pico_train.errors import ConfigError
from pico_train.plan import plan


def test_a_run_is_the_same_and_goes_on(text, tmp_path):
    shared = {"distributed__strategy": "fsdp", "training__max_steps": 6, "training__optimizer__name": "muon"}
    assert launch(train_until, config(tmp_path / "device", text, **shared), world=2) == [0, 0]
    shared |= {"distributed__offload": True, "training__recompute": True}
    for stop_at in (4, None):
        ended = launch(train_until, config(tmp_path / "host", text, **shared), stop_at, world=2)
        assert ended == [143 if stop_at else 0] * 2
    one, two = tmp_path / "device/tiny", tmp_path / "host/tiny"
    assert logged(one) == logged(two) and largest_difference(weights(one, 6), weights(two, 6)) == 0


def test_the_plan_leaves_a_device_what_it_computes_with():
    sets = ["distributed.strategy=fsdp", "training.precision=bf16-mixed"]
    held, offloaded = (
        plan(layers.load_config(preset="xl", set=[*sets, f"distributed.offload={each}"]), devices=8)
        for each in ("false", "true")
    )
    assert offloaded.memory_gradients == offloaded.memory_optimizer == 0
    # an eighth of the float32 weights is the device's no more; what is whole while in use, two bytes each, stays
    assert held.memory_weights - offloaded.memory_weights == 4 * -(-held.parameters // 8)
    assert offloaded.memory_activations == held.memory_activations and offloaded.memory_weights > 0


@pytest.mark.parametrize(
    ("sets", "says"),
    [
        ([], "distributed.offload=true is of distributed.strategy=fsdp, and it is auto"),
        (["distributed.strategy=fsdp", "training.precision=16-mixed"], "does not go with training.precision=16-mixed"),
    ],
)
def test_what_cannot_be_offloaded_is_refused_in_one_sentence(sets, says):
    with pytest.raises(ConfigError) as refused:
        layers.load_config(set=["distributed.offload=true", *sets])
    assert says in str(refused.value) and "\n" not in str(refused.value)
