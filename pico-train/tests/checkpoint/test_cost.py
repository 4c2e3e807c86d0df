"""What a checkpoint takes on disk, and what `plan` says it takes."""

import pytest
from support.tiny import config
from support.training_runs import train_until
from support.worlds import launch

from pico_schema import documents, layout
from pico_train.plan import plan

BIGGER = {
    "model__d_model": 96,
    "model__n_layers": 4,
    "model__n_heads": 4,
    "model__d_ff": 384,
    "model__vocab_size": 1000,
    "training__max_steps": 4,
    "checkpoint__captures": {"early": None, "every": None, "at": [3]},
}
"""Large enough that a tokenizer of 300 tokens and a few kilobytes of JSON do not matter."""


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="default-sites"),
        pytest.param({"captures__moments": True, "captures__dtype": "bfloat16"}, id="moments"),
        pytest.param({"distributed__strategy": "fsdp"}, id="sharded"),
    ],
)
def test_a_checkpoint_takes_what_its_content_takes_and_what_was_planned(text, tmp_path, changes):
    settings = config(tmp_path, text, **BIGGER, captures__sites=["attn.v", "attn.o", "mlp.down"], **changes)
    sharded = "distributed__strategy" in changes
    launch(train_until, settings, world=2 if sharded else 1)
    directory = tmp_path / "tiny" / layout.checkpoint_dir(3)
    size = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
    manifest = documents.read_checkpoint(directory)
    content = 4 * settings.spec.n_params * (4 if sharded else 3)
    content += sum(manifest.files[capture.file].size for capture in manifest.captures)
    assert content < size <= 1.05 * content
    planned = plan(settings).checkpoint_bytes
    assert size == pytest.approx(planned, rel=0.05)
