import pandas
import pytest
from figure_rows import lines_of, pairs_of_steps

from pico_analyze.output.metric_pages import metrics, param_text
from pico_analyze.output.text import aligned, as_csv, as_json, number, size_text, table_text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.93124, "0.9312"),
        (0.0, "0.0000"),
        (1.0, "1.0000"),
        (12.345, "12.35"),
        (1234.5, "1234" if round(1234.5) == 1234 else "1235"),
        (3.1e6, "3.10e+06"),
        (1e-5, "1.00e-05"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (float("-inf"), "-inf"),
    ],
)
def test_numbers_are_short(value, text):
    assert number(value) == text


def test_columns_are_aligned():
    assert aligned(["step", "name"], [["0", "a"], ["100", "bcd"]], left=(1,)).splitlines() == [
        "  step  name",
        "     0  a",
        "   100  bcd",
    ]


@pytest.mark.parametrize(
    ("size", "text"), [(None, "-"), (12, "12 B"), (34_100_000, "34.1 MB"), (2_000_000_000_000, "2.0 TB")]
)
def test_sizes_are_for_people(size, text):
    assert size_text(size) == text


def test_an_empty_list_is_valid_json_and_csv():
    assert as_json([]).split() == ["[", "]"]
    assert as_csv([]) == ""


def test_a_parameter_says_what_it_takes():
    record = {"default": False, "choices": [], "low": None, "high": None, "help": "why"}
    assert param_text(record) == "default false: why"
    assert param_text(record | {"default": 3, "low": 1, "high": 9}) == "1 to 9, default 3: why"
    assert param_text(record | {"default": "a", "choices": ["a", "b"]}) == "a or b, default a: why"


def test_the_list_of_metrics_names_ranges_and_data():
    text = metrics(None, "table")
    assert "cka" in text and "comparison" in text and "activations" in text
    assert max(map(len, text.splitlines())) < 150


def rows(**columns):
    common = {"run": "demo", "metric": "cka", "params": "{}", "component": "ov_circuit", "data": "activations"}
    common |= {"split": "val", "site": "attn.ov", "target_run": "demo", "target_step": 8, "target_layer": None}
    frame = pandas.DataFrame(common | {"reason": None, "extra": None} | columns)
    whole_numbers = ["step", "layer", "head", "target_step", "target_layer"]
    return frame.astype(dict.fromkeys(whole_numbers, "Int64") | {"reason": object, "extra": object})


def test_a_whole_stands_for_its_layer_and_heads_only_where_there_is_none():
    """Layer 0 has a whole and two heads, layer 1 two heads alone."""
    frame = rows(step=[0] * 5, layer=[0, 0, 0, 1, 1], head=[None, 0, 1, 0, 1], value=[0.5, 0.1, 0.2, 0.3, 0.4])
    assert table_text(frame).splitlines() == [
        "cka · ov_circuit attn.ov · val activations · run demo against step 8"
        "   (whole; 2 heads per layer in the files)",
        "  step  layer 0",
        "     0   0.5000",
        "  layer 1: step  head 0  head 1",
        "              0  0.3000  0.4000",
    ]


def test_heads_compared_between_steps_and_layers_have_grids_of_their_own():
    pairs = rows(
        step=[0, 0, 0, 0], layer=[0] * 4, head=[0, 0, 1, 1], target_step=[0, 8] * 2, value=[0.1, 0.2, 0.3, 0.4]
    )
    assert table_text(pairs).splitlines()[1:] == [
        "  layer 0, head 0: step \\ step       0       8",
        "                             0  0.1000  0.2000",
        "  layer 0, head 1: step \\ step       0       8",
        "                             0  0.3000  0.4000",
    ]
    layers = rows(step=[8] * 2, layer=[0] * 2, head=[0, 1], target_layer=[1] * 2, value=[0.1, 0.2])
    assert table_text(layers).splitlines()[1:] == [
        "  head 0, step 8  layer 1",
        "         layer 0   0.1000",
        "  head 1, step 8  layer 1",
        "         layer 0   0.2000",
    ]


def test_the_companion_of_a_value_stands_in_brackets_beside_it():
    extra = ['{"debiased": 0.25, "n": 3.0}', '{"n": 3.0}']
    frame = rows(step=[0, 1], layer=[0, 0], head=[None, None], value=[0.5, 0.75], extra=extra)
    title, *lines = table_text(frame).splitlines()
    assert title.endswith("(in brackets: debiased)")
    assert [line.split() for line in lines[1:]] == [["0", "0.5000", "(0.2500)"], ["1", "0.7500"]]
    other = table_text(frame.assign(metric="svcca"))  # its description names no companion
    assert "brackets" not in other and "(0.25" not in other


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.93124, "0.93"), (0.05, "0.05"), (0.0, "0.00"), (12.345, "12.3"), (1234.5, "1234"), (3.1e6, "3.1e+06"),
     (1e-5, "1.0e-05"), (float("nan"), "nan"), (-0.5, "-0.50")],
)  # fmt: skip
def test_numbers_of_narrow_tables_have_two_decimals(value, text):
    assert number(value, 2) == text


def of_layers(count):
    return lines_of(layers=count, steps=(0, 1000))


@pytest.mark.parametrize("width", [30, 40, 80, 120, 200])
@pytest.mark.parametrize("layers", [1, 4, 12, 48])
def test_tables_fit_the_width_of_a_terminal(layers, width):
    text = table_text(of_layers(layers), width)
    _title, *lines = text.splitlines()
    assert max(map(len, lines)) <= width
    names = [word for line in lines if "layer" in line for word in line.split("layer ")[1:]]
    assert [int(name) for name in names] == list(range(layers))  # each once, in order
    assert all(line.split()[0] in ("step", "0", "1000") for line in lines)


def test_what_fits_keeps_its_four_decimals():
    assert table_text(of_layers(4), 80) == table_text(of_layers(4))
    assert "0.0000" in table_text(of_layers(4), 30)  # a column is as wide as its name: shorter numbers gain nothing
    pairs = pairs_of_steps((0, 1, 10, 100, 1000))
    wide, narrow = table_text(pairs, 68), table_text(pairs, 60)
    assert "0.6000" in wide
    assert "0.6000" not in narrow and "0.60" in narrow
    assert len(narrow.splitlines()) == len(wide.splitlines())


def test_a_file_is_not_as_wide_as_the_terminal_of_whoever_makes_it():
    assert len(table_text(of_layers(16)).splitlines()) == 4
