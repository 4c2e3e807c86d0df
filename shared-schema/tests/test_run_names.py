import pytest

from pico_schema.run_names import parse_step, split_step


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
