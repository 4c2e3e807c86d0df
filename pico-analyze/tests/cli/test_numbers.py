"""Numbers on the command line: whatever is none, or is larger than anything there is, is refused in one sentence."""

from __future__ import annotations

import math
import sys

import pytest

import pico_analyze
from pico_analyze.cli.app import app
from pico_analyze.components.spec import COMPONENTS
from pico_analyze.errors import UsageError
from pico_analyze.metrics.spec import METRICS
from pico_analyze.parameters import Param
from pico_conformance.options import numeric_options

NO_NUMBERS = ("nan", "inf", "-inf", "1e400", "-1e400", "9" * 5000, "")
NO_COUNTS = ("-1", str(10**30), str(-(10**30)))


OPTIONS = list(numeric_options(app))


def test_the_walk_finds_the_options_there_are():
    found = {f"{' '.join(path)} {option}" for path, option in OPTIONS}
    assert {"compute --seed", "compute --draws", "dynamics --tau", "run --memory", "run --threads"} <= found
    assert len(found) >= 10


@pytest.mark.parametrize(
    ("path", "option"), OPTIONS, ids=lambda part: part if isinstance(part, str) else "-".join(part)
)
def test_every_numeric_option_refuses_what_is_no_number_of_its_kind(path, option, pico):
    # A threshold is compared with the values of any metric, so that each finite number is one.
    for text in NO_NUMBERS + (() if option == "--tau" else NO_COUNTS):
        answer = pico(*path, f"{option}={text}")
        assert (answer.code, answer.out, answer.err) == (2, "", f"{answer.error}\n"), text[:40]
        assert f"'{option}'" in answer.error, text[:40]


@pytest.mark.parametrize("text", ["nan", "inf", "1e400", "-1", str(10**30), "9" * 5000])
@pytest.mark.parametrize("option", ["--steps", "--layers", "--shard"])
def test_numbers_inside_a_text_are_there_or_are_refused(option, text, pico, run_dir):
    answer = pico("compute", "norm", run_dir, f"{option}={text}")
    assert answer.code == 2 and text in answer.error


@pytest.mark.parametrize("words", [("list",), ("compute", "norm"), ("run",)])
def test_a_name_that_no_file_can_have_is_refused_in_one_sentence(words, pico):
    answer = pico(*words, "9" * 5000)
    assert answer.code == 2 and "too long" in answer.error


@pytest.mark.parametrize("text", ["nan", "1e400", "-1", str(10**30), "9" * 5000])
def test_a_target_that_is_no_step_is_refused(text, pico, run_dir):
    answer = pico("compute", "cka", run_dir, f"--target={text}")
    assert answer.code in (2, 3) and text[:40] in answer.error


def declared() -> list[tuple[str, str, Param]]:
    specs = [*(METRICS.get(name) for name in METRICS.names()), *(COMPONENTS.get(name) for name in COMPONENTS.names())]
    return [
        (spec.name, name, param)
        for spec in specs
        for name, param in spec.params.items()
        if type(param.default) in (int, float)
    ]


@pytest.mark.parametrize(("owner", "name", "param"), declared(), ids=lambda part: part if isinstance(part, str) else "")
def test_every_numeric_parameter_refuses_what_is_no_number_of_its_kind(owner, name, param):
    wrong = [*NO_NUMBERS, math.nan, math.inf, -math.inf, 10**400]
    wrong += [*NO_COUNTS, 10**30] if isinstance(param.default, int) else []
    for value in wrong:
        with pytest.raises(UsageError, match=f"^{owner}: {name}"):
            param.parse(owner, name, value)


def test_a_parameter_that_declares_infinity_takes_it():
    assert Param(2.0, "order of the norm", high=math.inf).parse("norm", "p", "inf") == math.inf
    assert Param(1, "a count").parse("norm", "k", 2**31 - 1) == 2**31 - 1
    assert Param(1.0, "a number").parse("norm", "x", sys.float_info.max) == sys.float_info.max


@pytest.mark.parametrize("keywords", [{"memory": math.nan}, {"memory": math.inf}, {"memory": -1.0}, {"memory": 0.0}])
def test_a_bound_of_memory_bounds_something(keywords, run_dir):
    with pytest.raises(UsageError, match="bounds nothing"):
        pico_analyze.compute("norm", run_dir, **keywords)


@pytest.mark.parametrize("tau", [math.nan, math.inf, -math.inf])
def test_a_threshold_is_finite(tau, run_dir):
    with pytest.raises(UsageError, match="no threshold"):
        pico_analyze.dynamics("norm", run_dir, tau=tau)


@pytest.mark.parametrize("seed", [-1, 2**63, 10**30])
def test_a_seed_is_one_that_a_generator_takes(seed, run_dir):
    with pytest.raises(UsageError, match="out of range"):
        pico_analyze.compute("norm", run_dir, seed=seed)
