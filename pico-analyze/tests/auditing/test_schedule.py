"""Steps that are missing from a rule, and schedules in which nothing is."""

from __future__ import annotations

import pytest

from pico_analyze.auditing.evidence import Evidence
from pico_analyze.auditing.schedule import missing_steps, tokens

POWERS = [2**n for n in range(10)]
PYTHIA = [0, *POWERS, *range(1000, 144000, 1000)]

SOUND = {
    "pythia": PYTHIA,
    "every 1000": list(range(0, 20001, 1000)),
    "powers alone": [0, *(2**n for n in range(18))],
    "1-2-5": [0, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000],
    "finer, then coarser": [*range(0, 100, 10), *range(100, 1000, 100), *range(1000, 10001, 1000)],
    "coarser, then finer": [*range(0, 10000, 1000), *range(10000, 11001, 100)],
    "a last step beside the rule": [*range(0, 5001, 500), 5321],
    "a last step twice as far": [*range(0, 5001, 500), 6000],
    "powers and a distance, mixed": sorted({*(2**n for n in range(14)), *range(1000, 16001, 1000)}),
    "half powers": [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256],
    "tenths of decades": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 200, 300, 400],
    "two": [0, 1000],
    "three": [0, 1000, 3000],
    "one": [7],
    "none": [],
}


@pytest.mark.parametrize("name", SOUND)
def test_nothing_is_missing_in_a_sound_schedule(name: str) -> None:
    assert missing_steps(SOUND[name]) == []


@pytest.mark.parametrize(
    ("steps", "missing"),
    [
        ([step for step in PYTHIA if step != 77000], [(76000, 78000, (77000,))]),
        (
            [step for step in PYTHIA if step not in (5000, 6000, 90000)],
            [(4000, 7000, (5000, 6000)), (89000, 91000, (90000,))],
        ),
        ([step for step in PYTHIA if step != 64], [(32, 128, (64,))]),
        ([step for step in range(0, 3001, 100) if step != 1500], [(1400, 1600, (1500,))]),
        ([0, 1, 2, 4, 16, 32, 64, 128], [(4, 16, (8,))]),
    ],
)
def test_what_is_missing_is_named(steps: list[int], missing: list[tuple[int, int, tuple[int, ...]]]) -> None:
    assert missing_steps(steps) == sorted(missing)


def test_a_step_that_is_there_and_cannot_be_read_is_not_missing() -> None:
    assert missing_steps([step for step in PYTHIA if step != 77000], [77000]) == []


def told(pairs: dict[int, int]) -> list[str]:
    found = tokens([Evidence(step, f"step{step}", number) for step, number in pairs.items()])
    return [f"{one.severity} {one.step}" for one in found or []]


def test_tokens_follow_the_steps_as_their_names_round_them() -> None:
    exact = {step: step * 4_194_304 for step in range(0, 20001, 1000)}
    rounded = {step: round(number / 1e9) * 10**9 for step, number in exact.items()}
    cut = {step: number // 10**9 * 10**9 for step, number in exact.items()}
    assert told(exact) == told(rounded) == told(cut) == []
    assert told(exact | {5000: exact[6000]}) == ["warning 5000"]
    assert told(rounded | {5000: 50 * 10**9}) == ["warning 5000"]


def test_a_batch_that_grows_is_no_fault_and_fewer_tokens_are() -> None:
    grown = {step: step * 1000 if step < 1000 else 10**6 + (step - 1000) * 4000 for step in range(0, 4001, 250)}
    assert told(grown) == []
    assert told(grown | {2000: grown[1500]}) == ["error 2000"]
    assert tokens([Evidence(0, "a", 0), Evidence(1, "b", 5)]) is None
