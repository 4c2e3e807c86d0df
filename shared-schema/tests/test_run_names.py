import time

import pytest

from pico_schema import AddressError, SchemaError
from pico_schema.run_names import parse_address, parse_step, split_step


@pytest.mark.parametrize(
    ("text", "step"),
    [("128", 128), ("step-128", 128), ("0", 0), ("first", "first"), ("last", "last"), ("99999999", 99_999_999)],
)
def test_a_step_is_a_number_or_a_word(text, step):
    assert parse_step(text) == step
    assert split_step(f"runs/demo@{text}") == ("runs/demo", step)
    assert split_step(f"hf://org/name@{text}") == ("hf://org/name", step)


@pytest.mark.parametrize("text", ["", "-1", "1.5", "prev", "step-", "step-x", "100000000", "²", "main"])
def test_anything_else_is_no_step_and_stays_part_of_the_name(text):
    assert parse_step(text) is None
    assert split_step(f"demo@{text}") == (f"demo@{text}", None)


def test_a_step_without_a_run_is_a_name():
    assert split_step("@128") == ("@128", None)
    assert split_step("demo") == ("demo", None)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("hf://org/name", ("org/name", None, None)),
        ("hf://org/name@demo", ("org/name", "demo", None)),
        ("hf://org/name@demo:step-128", ("org/name", "demo", 128)),
        ("hf://org/name:step-0", ("org/name", None, 0)),
        ("hf://org/name@demo-step-8", ("org/name", "demo-step-8", None)),
        ("hf://org/name@feature/x", ("org/name", "feature/x", None)),
        ("hf://_o.r-g/1.0_n-m.v2@" + "a" * 40, ("_o.r-g/1.0_n-m.v2", "a" * 40, None)),
        ("hf://org/name@" + "r" * 200 + ":step-99999999", ("org/name", "r" * 200, 99_999_999)),
        ("hf://org/name@a--b", ("org/name", "a--b", None)),
        ("hf://org/name@zweig-ä", ("org/name", "zweig-ä", None)),
    ],
)
def test_an_address_is_a_repository_a_revision_and_a_step(text, parts):
    found = parse_address(text)
    assert found == parts
    assert (found.repo, found.revision, found.step) == parts


INCOMPLETE = [
    "", "hf://", "org/name", "hf:/org/name", "HF://org/name", "https://org/name", "hf://name", "hf://org/", "hf:///name",
    "hf://org/name/more", "hf://org/name@", "hf://org/name@main@demo", "hf://org/name@a:b", "hf://org/name:128",
    "hf://org/name:step-", "hf://org/name:step--1", "hf://org/name:step-1.5", "hf://org/name:step-100000000",
    "hf://org/name:step-²", " hf://org/name", "hf://org/name ", "hf://user@host/name", "hf://örg/name",
]  # fmt: skip
HOSTILE = [
    "hf://a/../b", "hf://../b", "hf://a/..", "hf://./b", "hf://a/.b", "hf://-a/b", "hf://a/-b", "hf://a/b..c", "hf://a--b/c",
    "hf://a/b--c", "hf://a/b@../../main", "hf://a/b@x..y", "hf://a\\b/c", "hf://a/b%2f..", "hf://a/b?x=y", "hf://a/b#c",
    "hf://a/b\n", "hf://a/b@main\n", "hf://a/b\x00", "hf://a/b@ma\x00in", "hf://a/b@\x1b[31mmain", "hf://a/b@main\x7f",
    "hf://a/b@\x9b31m", "hf://a/b@a b", "hf://a/b@\tmain", "hf://a/b@" + "r" * 201,
]  # fmt: skip


@pytest.mark.parametrize("text", INCOMPLETE + HOSTILE, ids=ascii)
def test_anything_else_is_no_address_and_a_sentence_says_so(text):
    with pytest.raises(AddressError) as caught:
        parse_address(text)
    said = str(caught.value)
    assert said == (
        f"{text!r} is not an address on the Hub: write hf://org/name@branch-or-tag, or hf://org/name@branch:step-128"
    )
    assert said.isprintable()
    assert isinstance(caught.value, SchemaError)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("text", ["hf://" + "a" * 300_000, "hf://a/" + "b" * 300_000 + "!", "hf://" + "a/b@" * 100_000])
def test_a_very_long_text_is_refused_at_once_and_not_repeated(text):
    began = time.perf_counter()
    with pytest.raises(AddressError) as caught:
        parse_address(text)
    assert time.perf_counter() - began < 10, "seconds, where a slow pattern would need hours"
    assert len(str(caught.value)) < 500
