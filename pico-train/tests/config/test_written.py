"""What the user wrote is what is run: each value is taken as it is written, or refused in one sentence."""

from __future__ import annotations

import re
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pico_train.config import RunConfig, describe, layers
from pico_train.errors import ConfigError


def nested(path: str, value: Any) -> dict[str, Any]:
    for key in reversed(path.split(".")):
        value = {key: value}
    return value


@cache
def accepted(path: str) -> list[dict[str, Any]]:
    """The JSON schemas of the values that a setting takes."""
    model: Any = RunConfig
    *parents, name = path.split(".")
    for part in parents:
        model = model.model_fields[part].annotation
    schema = model.model_json_schema()["properties"][name]
    return list(schema.get("anyOf", [schema]))


LEAVES = list(describe.fields())
KINDS = {path: {option.get("type") for option in accepted(path)} for path in LEAVES}
NUMBERS = [path for path in LEAVES if KINDS[path] & {"integer", "number"}]
INTEGERS = [path for path in LEAVES if "integer" in KINDS[path]]
BOOLEANS = [path for path in LEAVES if "boolean" in KINDS[path]]
TEXTS = [
    path
    for path in LEAVES
    if any(o.get("type") == "string" and not o.keys() & {"enum", "const"} for o in accepted(path))
]
LISTS = [path for path in LEAVES if "array" in KINDS[path]]


def test_the_kinds_of_settings_are_found() -> None:
    assert len(NUMBERS) > 50 and len(INTEGERS) > 35 and len(BOOLEANS) > 10 and len(TEXTS) > 8
    assert {"data.paths", "data.val_paths", "captures.sites", "checkpoint.weights.at"} < set(LISTS)


NO_NUMBER = [".inf", "-.inf", ".nan", "1e39", "-1e39", "-1", "9" * 40, "true", "'5'", "1_000", "1:30", "[5]", "{a: 5}"]


@pytest.mark.parametrize("path", NUMBERS)
def test_what_is_no_number_for_a_setting_is_refused_in_one_sentence(path: str) -> None:
    for written in NO_NUMBER:
        with pytest.raises(ConfigError) as caught:
            layers.load_config(set=[f"{path}={written}"])
        message = str(caught.value)
        assert path in message and "\n" not in message and len(message) < 400, written


@pytest.mark.parametrize("path", INTEGERS)
def test_whole_numbers_are_not_rounded(path: str) -> None:
    with pytest.raises(ConfigError, match="valid integer"):
        layers.load_config(set=[f"{path}=1.9"])


@pytest.mark.parametrize(
    ("written", "steps"), [("1e3", 1000), ("1000.0", 1000), ("0100", 100), ("0x64", 100), ("0o144", 100), ("+100", 100)]
)
def test_a_number_is_what_yaml_1_2_says(tmp_path: Path, written: str, steps: int) -> None:
    assert layers.load_config(set=[f"training.max_steps={written}"]).training.max_steps == steps
    (tmp_path / "run.yaml").write_text(f"training: {{max_steps: {written}}}\n")
    assert layers.load_config(tmp_path / "run.yaml").training.max_steps == steps


@pytest.mark.parametrize("path", BOOLEANS)
def test_only_true_and_false_are_booleans(path: str) -> None:
    for written in ["1", "0", "on", "yes", "'true'", "2"]:
        with pytest.raises(ConfigError, match="valid boolean"):
            layers.load_config(set=[f"{path}={written}"])


@pytest.mark.parametrize("path", TEXTS)
def test_a_number_is_no_text_unless_it_is_in_quotes(path: str) -> None:
    for written in ["1e5", "5", "true", "0x10"]:
        with pytest.raises(ConfigError, match=r": quote it if it is text$"):
            layers.load_config(set=[f"{path}={written}"])


@pytest.mark.parametrize("path", TEXTS)
def test_what_no_file_and_no_path_can_hold_is_refused(path: str) -> None:
    for text in ["a\0b", "a\ud800b"]:
        with pytest.raises(ConfigError, match=path.replace(".", r"\.")):
            layers.validate(layers.merge(layers.preset_values("demo"), nested(path, text)))


@pytest.mark.parametrize("value", ["on", "off", "auto"])
@pytest.mark.parametrize("quote", ["", "'", '"'])
def test_documented_words_work_in_quotes_and_without(tmp_path: Path, value: str, quote: str) -> None:
    (tmp_path / "run.yaml").write_text(f"training: {{compile: {quote}{value}{quote}}}\n")
    assert layers.load_config(tmp_path / "run.yaml").training.compile == value
    assert layers.load_config(set=[f"training.compile={quote}{value}{quote}"]).training.compile == value


def test_one_word_stands_for_a_list_of_one() -> None:
    config = layers.load_config(
        set=["data.paths=texts", "data.val_paths='a, b'", "captures.sites=mlp.down", "checkpoint.weights.at=5"]
    )
    assert (config.data.paths, config.data.val_paths) == (("texts",), ("a, b",))
    assert (config.captures.sites, config.checkpoint.weights.at) == (("mlp.down",), (5,))


@pytest.mark.parametrize("path", LISTS)
def test_what_is_no_list_is_refused(path: str) -> None:
    for written in ["true", "{a: 1}", "", "[true]", "[[1]]"]:
        with pytest.raises(ConfigError, match=path.replace(".", r"\.")):
            layers.load_config(set=[f"{path}={written}"])


FILES = {
    "training:\n  max_steps: true\n": "line 2: training.max_steps: input should be a valid integer, but it is true",
    "seed: 1\ntraining:\n  optimizer:\n    lr: 'x'\n": "line 4: training.optimizer.lr: input should be a valid number, "
    "but it is the text 'x'",
    "name: 1e5\n": "line 1: name: input should be a valid string, but it is 100000.0: quote it if it is text",
    "data:\n  paths:\n    - a\n    - 5\n": "line 2: data.paths: input should be a valid string, but it is 5: quote it",
    "seed: 1\nnonsense: 2\n": "line 2: unknown setting 'nonsense'",
    "training: {max_steps: 5}\ntraining: {batch_size: 8}\n": "line 2: the key 'training' stands twice",
    "training: {<<: {max_steps: 5}}\n": "line 1: << is no key of YAML 1.2",
    "name: a\n---\nname: b\n": "line 2: a second document begins here",
    "name: !!python/name:os.system ''\n": "line 1: the tag !!python/name:os.system",
    "training:\n\tmax_steps: 5\n": "line 2: not valid YAML (a tab",
    "- name: a\n": "expected sections such as `training:`, found a list",
    "data: {val_fraction: 7e12345}\n": "line 1: 7e12345 is too large for a number",
}


@pytest.mark.parametrize("content", FILES)
def test_a_mistake_in_a_file_names_file_and_line(tmp_path: Path, content: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError) as caught:
        layers.load_config(file)
    message = str(caught.value)
    assert message.startswith(str(file)) and FILES[content] in message and "\n" not in message


def test_what_is_set_by_a_word_is_not_looked_for_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("training: {max_steps: 5}\n")
    with pytest.raises(ConfigError, match=r"^training\.max_steps: input should be greater than 0, but it is 0$"):
        layers.load_config(tmp_path / "run.yaml", set=["training.max_steps=0"])


def test_an_empty_file_and_one_that_is_not_utf_8(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("# nothing yet\n")
    assert layers.load_config(tmp_path / "empty.yaml") == layers.load_config()
    (tmp_path / "latin.yaml").write_bytes("name: a\nout: caf\xe9\n".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin\.yaml, line 2: not UTF-8"):
        layers.load_config(tmp_path / "latin.yaml")


@pytest.mark.parametrize(
    ("assignments", "source"),
    [
        (["data.paths=texts"], "text"),
        (["data.paths=[a, b]", "data.source=text"], "text"),
        (["data.paths=shards", "data.source=tokens"], "tokens"),
        (["data.repo=a/b"], "hub"),
        (["data.paths=texts", "data.source="], "text"),
        (["data.val_rows=8"], "stdlib"),
    ],
)
def test_what_is_to_be_read_says_what_kind_of_source_it_is(tmp_path: Path, assignments: list[str], source: str) -> None:
    assert layers.load_config(set=assignments).data.source == source
    lines = ["data:", *("  " + word.removeprefix("data.").replace("=", ": ", 1) for word in assignments)]
    (tmp_path / "run.yaml").write_text("\n".join(lines) + "\n")
    assert layers.load_config(tmp_path / "run.yaml").data.source == source


def test_a_presets_source_gives_way_to_paths_but_one_that_was_written_does_not(tmp_path: Path) -> None:
    assert layers.load_config(preset="tiny", set=["data.paths=texts"]).data.source == "text"
    (tmp_path / "run.yaml").write_text("data: {source: stdlib}\n")
    with pytest.raises(ConfigError, match=r"data\.paths=\['texts'\] is not read by data\.source=stdlib"):
        layers.load_config(tmp_path / "run.yaml", set=["data.paths=texts"])
    with pytest.raises(ConfigError, match=r"is not read by data\.source=hub"):
        layers.load_config(preset="tiny", set=["data.paths=texts", "data.source=hub"])


def test_the_warm_up_of_a_higher_layer_takes_the_place_of_the_one_below(tmp_path: Path) -> None:
    (tmp_path / "steps.yaml").write_text("training: {schedule: {warmup_steps: 7}}\n")
    (tmp_path / "part.yaml").write_text("training: {schedule: {warmup: 0.25}}\n")

    def warmup(*words: str, file: str | None = None) -> tuple[float | None, int | None]:
        schedule = layers.load_config(tmp_path / file if file else None, set=words).training.schedule
        return schedule.warmup, schedule.warmup_steps

    assert warmup() == (0.1, None)
    assert warmup(file="steps.yaml") == (None, 7)
    assert warmup("training.schedule.warmup=0.5", file="steps.yaml") == (0.5, None)
    assert warmup("training.schedule.warmup_steps=3", file="part.yaml") == (None, 3)
    assert warmup("training.schedule.warmup=0.5", "training.schedule.warmup_steps=3") == (None, 3)
    with pytest.raises(ConfigError, match="both say how long the warm-up is"):
        (tmp_path / "both.yaml").write_text("training: {schedule: {warmup: 0.25, warmup_steps: 7}}\n")
        warmup(file="both.yaml")


TRAPS = [
    "1e5",
    "on",
    "null",
    "~",
    "0x10",
    "2026-11-26",
    "0100",
    "1:30",
    "true",
    "",
    "<<",
    "a: b",
    "a #b",
    "é",
    "- a",
    "=",
]
WORDS = st.one_of(st.sampled_from(TRAPS), st.text(st.characters(exclude_categories=["Cs"]), max_size=9))


def values(path: str) -> st.SearchStrategy[Any]:
    """Values that a setting takes, by its JSON schema."""

    def one(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
        if "enum" in schema:
            return st.sampled_from(schema["enum"])
        kind = schema.get("type", "const")
        low = schema.get("minimum", schema.get("exclusiveMinimum"))
        high = schema.get("maximum", schema.get("exclusiveMaximum"))
        if kind == "integer":
            least = schema.get("minimum", schema.get("exclusiveMinimum", -1) + 1)
            return st.integers(least, high if high is not None else None)
        if kind == "number":
            return st.floats(
                low, high, exclude_min="exclusiveMinimum" in schema, exclude_max="exclusiveMaximum" in schema
            )
        if kind == "array":
            return st.lists(one(schema["items"]), max_size=3)
        return {"boolean": st.booleans(), "null": st.none(), "string": WORDS}.get(kind, st.just(schema.get("const")))

    return st.one_of([one(schema) for schema in accepted(path)])


CHANGES = st.lists(st.sampled_from(LEAVES), min_size=1, max_size=5, unique=True).flatmap(
    lambda paths: st.fixed_dictionaries({path: values(path) for path in paths})
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=CHANGES)
@example(changes={"name": "1e5", "out": "~"})
@example(changes={"name": "2026-11-26", "data.revision": "7e12345", "data.subset": "null", "training.compile": "off"})
@example(changes={"name": "on", "data.text_column": "0x10", "monitoring.wandb.project": "a: b #c"})
def test_what_is_shown_is_read_back_as_the_very_same_configuration(tmp_path: Path, changes: dict[str, Any]) -> None:
    raw = layers.preset_values("demo")
    for path, value in changes.items():
        with suppress(ConfigError):  # such as a width that the heads do not divide: that setting is left as it was
            layers.validate(changed := layers.merge(raw, nested(path, value)))
            raw = changed
    config = layers.validate(raw)
    file = tmp_path / "shown.yaml"
    file.write_text(layers.to_yaml(config), encoding="utf-8")
    again = layers.load_config(file)
    assert again == config
    assert again.model_dump(mode="json") == config.model_dump(mode="json")
    # And by whoever reads it with the rules of YAML 1.1.
    assert yaml.safe_load(file.read_text(encoding="utf-8")) == config.model_dump(mode="json")


@pytest.mark.parametrize("path", TEXTS)
def test_texts_that_look_like_something_else_are_read_back(tmp_path: Path, path: str) -> None:
    tried = 0
    for text in TRAPS:
        raw = layers.merge(layers.preset_values("demo"), nested(path, text))
        try:
            config = layers.validate(raw)
        except ConfigError:  # some are no names of a run, a repository, a licence
            continue
        (tmp_path / "shown.yaml").write_text(layers.to_yaml(config), encoding="utf-8")
        assert layers.load_config(tmp_path / "shown.yaml") == config
        tried += 1
    assert tried or path == "publish.repo"


def test_the_file_that_the_readme_shows_is_a_configuration(tmp_path: Path) -> None:
    readme = Path(__file__).parents[2] / "README.md"
    [block] = re.findall(r"```yaml\n(.*?)```", readme.read_text(encoding="utf-8"), re.S)
    (tmp_path / "my.yaml").write_text(block, encoding="utf-8")
    config = layers.load_config(tmp_path / "my.yaml")
    assert (config.name, config.data.source, config.data.paths) == ("first", "text", ("my/texts",))
    assert (config.training.max_steps, config.training.compile) == (1000, "off")
