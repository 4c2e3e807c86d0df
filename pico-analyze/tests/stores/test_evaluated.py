"""Results that `pico-train evaluate` left of models of other makers are results like those of a run."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

from pico_analyze import read_rows
from pico_analyze.cli.app import app
from pico_analyze.engine.evaluations import bring
from pico_analyze.errors import DataError
from pico_analyze.stores.opening import ReadOptions, open_store
from pico_conformance.published import put_files
from pico_schema import Evaluation, Producer, documents, evaluated, layout
from pico_schema.digests import git_blob_id, sha256_file

D, V = 8, 20
CONFIG = (
    b'{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 8, "num_hidden_layers": 1, '
    b'"num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 16, "vocab_size": 20, '
    b'"max_position_embeddings": 16, "rms_norm_eps": 1e-6, "tie_word_embeddings": false}'
)
TASKS = {"pairs": {"accuracy": 0.5, "accuracy_se": 0.02, "n_pairs": 600}, "pairs/island": {"accuracy": 0.25}}


def model(folder: Path, seed: int) -> Path:
    """A Llama of one block with random weights."""
    rng = np.random.default_rng(seed)
    layer = "model.layers.0."
    shapes = {f"{layer}self_attn.{name}_proj.weight": (D, D) for name in "qkvo"}
    shapes |= {f"{layer}mlp.{name}_proj.weight": (16, D) for name in ("gate", "up")}
    shapes |= {f"{layer}mlp.down_proj.weight": (D, 16), "model.embed_tokens.weight": (V, D), "lm_head.weight": (V, D)}
    norms = ["model.norm.weight", f"{layer}input_layernorm.weight", f"{layer}post_attention_layernorm.weight"]
    folder.mkdir(parents=True)
    tensors = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    save_file(tensors | {name: np.ones(D, np.float32) for name in norms}, folder / "model.safetensors")
    (folder / "config.json").write_bytes(CONFIG)
    return folder


def digest(folder: Path) -> str:
    return evaluated.model_digest({name: sha256_file(folder / name) for name in ("config.json", "model.safetensors")})


def keep(out: Path, place: str, step: int, model_digest: str, accuracy: float = 0.5) -> Path:
    found = Evaluation(
        run_id=evaluated.series_id(place),
        step=step,
        manifest_sha256=model_digest,
        created=datetime.now(UTC),
        producer=Producer(name="pico-train", version="0"),
        tasks={**TASKS, "pairs": TASKS["pairs"] | {"accuracy": accuracy}},
    )
    (out / layout.EVALUATIONS).mkdir(parents=True, exist_ok=True)
    documents.write(out / layout.evaluation_file(step), found)
    return out / layout.evaluation_file(step)


@pytest.fixture
def series(tmp_path, monkeypatch) -> Path:
    """Three models of which results lie in ./evaluated, a level of accuracy each."""
    monkeypatch.chdir(tmp_path)
    for step, accuracy in ((0, 0.5), (500, 0.6), (1000, 0.8)):
        folder = model(tmp_path / "models" / "tiny" / f"checkpoint-{step}", seed=step)
        place = str((tmp_path / "models" / "tiny").resolve())
        keep(tmp_path / "evaluated" / "tiny", place, step, digest(folder), accuracy)
    return tmp_path / "models" / "tiny"


def test_results_of_a_folder_of_models_are_rows_of_the_table(series, tmp_path):
    frame, directory = bring(series, tmp_path / "analysis", ReadOptions())
    rows = frame[frame["metric"] == "eval/pairs/accuracy"].set_index("step")["value"].to_dict()
    assert rows == {0: 0.5, 500: 0.6, 1000: 0.8}
    assert set(frame["metric"]) == {"eval/pairs/accuracy", "eval/pairs/island/accuracy"}
    assert read_rows(directory)["metric"].tolist() == frame["metric"].tolist()


def test_dynamics_correlates_with_them(series):
    words = ["dynamics", "norm", str(series), "--data", "weights", "--site", "attn.v"]
    done = CliRunner().invoke(app, [*words, "--evaluation", "eval/pairs/accuracy"])
    assert done.exit_code == 0, done.output
    table = pandas.read_csv("analysis/tiny/dynamics.csv")
    assert table["n_shared"].tolist() == [3]
    store = open_store(series)
    norms = [np.linalg.norm(store.read(step, None, "weights", "layers.0.attn.v")) for step in (0, 500, 1000)]
    assert table["r"].tolist() == [pytest.approx(np.corrcoef(norms, [0.5, 0.6, 0.8])[0, 1], abs=1e-4)]


def test_one_model_of_the_series_and_results_beside_the_models(series, tmp_path):
    assert open_store(series / "checkpoint-500").evaluations()[500]["pairs.accuracy"] == 0.6
    (tmp_path / "evaluated").rename(tmp_path / "elsewhere")
    assert open_store(series).evaluations() == {}
    keep(series, str(series.resolve()), 500, digest(series / "checkpoint-500"), 0.7)
    assert {step: of["pairs.accuracy"] for step, of in open_store(series).evaluations().items()} == {500: 0.7}


def test_results_of_another_place_do_not_count_and_those_of_other_weights_are_refused(series, tmp_path):
    keep(tmp_path / "evaluated" / "tiny", "/another/tiny", 0, "0" * 64)
    assert sorted(open_store(series).evaluations()) == [500, 1000]
    path = keep(tmp_path / "evaluated" / "tiny", str(series.resolve()), 0, "0" * 64)
    with pytest.raises(DataError, match=r"results of another model than .*checkpoint-0") as raised:
        open_store(series).evaluations()
    assert str(raised.value).startswith(str(path.relative_to(tmp_path)))


@pytest.mark.parametrize("hub_mode", ["lfs"])
def test_results_of_models_on_the_hub(hub, hub_mode, tmp_path, monkeypatch):
    """Known by the digests that the Hub lists: of weights the sha256, of the configuration git's."""
    del hub_mode
    monkeypatch.chdir(tmp_path)
    repo = "EleutherAI/pythia-70m"
    for step in (1, 512):
        folder = model(tmp_path / f"step{step}", seed=step)
        put_files(hub, repo, f"step{step}", {path.name: path.read_bytes() for path in folder.iterdir()})
        listed = {"config.json": git_blob_id(CONFIG), "model.safetensors": sha256_file(folder / "model.safetensors")}
        out = tmp_path / "evaluated" / "EleutherAI--pythia-70m"
        keep(out, f"hf://{repo}", step, evaluated.model_digest(listed), step / 1000)
    options = ReadOptions(cache_dir=tmp_path / "cache")
    found = open_store(f"hf://{repo}", options).evaluations()
    assert {step: of["pairs.accuracy"] for step, of in found.items()} == {1: 0.001, 512: 0.512}
    one = open_store(f"hf://{repo}@step512", options).evaluations()
    assert one[512]["pairs.accuracy"] == 0.512 and sorted(one) == [512]
