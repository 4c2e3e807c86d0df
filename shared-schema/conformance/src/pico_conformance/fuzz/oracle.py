"""What an answer may be, given what was done to the run.

An exit code of the tools, one sentence, no traceback, an end; and values that are those of the whole run wherever
nothing was said. What a person may change freely (`run.json`'s own facts, the settings, the log, results of evaluation)
has no digest, and a mutation that was sealed is another run: there the values are free.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pico_conformance.fuzz.commands import Answer, Command, Values
from pico_conformance.fuzz.mutations import Mutation

CODES = frozenset({0, 1, 2, 3, 4, 130, 143})
_MESSAGE = re.compile(r"^(warning|skipped|undefined|error|note|left out|out of)\b", re.MULTILINE)
_FREE = re.compile(r"golden/(run\.json|config\.yaml|metrics\.jsonl|evaluations/.*)|golden|analysis/golden/rows\.csv")


def faults(command: Command, answer: Answer, reference: Values | None, mutation: Mutation) -> list[str]:
    """What is wrong with an answer; empty if nothing is. `reference`: the values of the sound run, if it has any."""
    if answer.hung:
        return ["it did not end"]
    if answer.code is None:
        return [f"an exception left the command: {_last(answer.raised)}"]
    found = []
    if answer.code not in CODES:
        found.append(f"exit code {answer.code}")
    if "Traceback (most recent call last)" in answer.err + answer.out:
        found.append(f"a traceback: {_last(answer.err)}")
    if "PICO_DEBUG" in answer.err:
        found.append(f"an error without a sentence: {_last(answer.err)}")
    if answer.code and not answer.err.strip() and command.name != "verify":
        found.append(f"exit code {answer.code} without a word")
    silent = answer.code == 0 and not _MESSAGE.search(answer.err)
    if silent and command.values and reference is not None and not _values_are_free(mutation):
        found += _changed(command, answer, reference)
    return found


def _values_are_free(mutation: Mutation) -> bool:
    return mutation.sealed or _FREE.fullmatch(mutation.path) is not None


def _changed(command: Command, answer: Answer, reference: Mapping[str, str]) -> list[str]:
    assert command.values is not None
    try:
        values = command.values(answer.out)
    except (ValueError, KeyError) as error:
        return [f"its output cannot be read: {error}"]
    places = [place for place in {**reference, **values} if reference.get(place) != values.get(place)]
    if not places:
        return []
    place = places[0]
    return [f"{len(places)} values changed in silence, as {place}: {reference.get(place)} became {values.get(place)}"]


def damaged(mutation: Mutation) -> bool:
    """Whether a verification must not call the run sound: a file with a digest is not what was sealed, or not there."""
    if mutation.sealed or not mutation.path.startswith("golden/checkpoints/step-"):
        return False
    if "training_state" in mutation.path and mutation.kind in _GONE:  # the policy of a run may have removed it
        return False
    return mutation.kind in _ALTERED | _GONE | {"link out", "linked directory"}


_ALTERED = frozenset({"bits", "length", "stretch", "value", "header"})
_GONE = frozenset({"lost", "directory", "pipe", "link in a circle", "link to nothing"})


def _last(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
