"""Questions whose answers are scored by likelihood, and how many bits the right answer costs.

Of n questions, with the losses of their answers (nats) given the question, and their bytes:

    accuracy       share in which the right answer is the likeliest                  accuracy_se   √(p (1 − p) / n)
    accuracy_norm  the same, of the loss per byte (Gao et al., lm-evaluation-harness: acc_norm)
    macro_accuracy mean of the groups' accuracies, where there are several
    margin         mean of log p(right) − log p(the likeliest wrong one), nats       margin_se     its error
    bits_per_byte  Σ losses of right answers / (ln 2 · Σ their bytes)                bits_per_byte_se

The last moves long before a small model answers better than chance. Context and answer are encoded as one text and cut
after as many tokens as the context has by itself, as the harness does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pico_train.errors import DataError
from pico_train.evaluation.measures import mean_error, ratio_error, share_error
from pico_train.evaluation.scoring import Scorer, sums, windows_of
from pico_train.evaluation.sentences import Encoder, Question, read_records, text_of
from pico_train.training.step import Measures, Tasks


def read_questions(path: Path) -> list[Question]:
    """The questions of JSON lines: `context`, `choices`, `gold` (a number from 0), and `group` where wanted.

    Raises:
        UsageError, DataError: as `read_records`; or a line is no question.
    """
    questions = []
    for where, record in read_records(path):
        context, choices, gold = record.get("context", ""), record.get("choices"), record.get("gold")
        if not isinstance(context, str):
            raise DataError(f"{where}: context is no text")
        if not isinstance(choices, list) or not choices or not all(isinstance(c, str) and c for c in choices):
            raise DataError(f"{where}: choices is no list of texts")
        if type(gold) is not int or not 0 <= gold < len(choices):
            raise DataError(f"{where}: gold={str(gold)[:20]} is no number of a choice, 0 to {len(choices) - 1}")
        group = text_of(record, ("group",), where) if "group" in record else ""
        questions.append(Question(context, tuple(choices), gold, group))
    if not questions:
        raise DataError(f"{path}: holds no questions: it is empty")
    return questions


@dataclass(frozen=True)
class QuestionSet:
    """Questions, as token ids."""

    name: str
    """Name of the task."""
    questions: Sequence[Question]
    """The questions."""
    answers: Sequence[tuple[np.ndarray, int]]
    """Of each answer of each question: its ids behind those of the context, and how many of them are its own."""

    @classmethod
    def of(cls, name: str, questions: Sequence[Question], encoder: Encoder) -> QuestionSet:
        """The questions in a tokenizer's ids."""
        contexts, wholes = [], []
        for question in questions:
            stem = question.context.rstrip()
            space = question.context[len(stem) :]
            for choice in question.choices:
                contexts.append(stem)
                wholes.append(stem + space + choice)
        where = f"task {name}"
        own = [
            (whole, max(1, len(whole) - len(context)))
            for whole, context in zip(encoder(wholes, where), encoder(contexts, where), strict=True)
        ]
        return cls(name, questions, own)

    def measure(self, scorer: Scorer, *, batch_size: int, stride: int | None = None) -> Tasks:
        """Measures under `name`, and of each group under `name/group`. A collective."""
        windows = [
            window
            for number, (ids, own) in enumerate(self.answers)
            for window in windows_of(ids, number, context=scorer.context, stride=stride, n_scored=own)
        ]
        losses = sums(scorer, windows, len(self.answers), batch_size=batch_size)
        ends = np.cumsum([len(question.choices) for question in self.questions])[:-1]
        by_question = np.split(losses, ends)
        groups: dict[str, list[int]] = {}
        for number, question in enumerate(self.questions):
            groups.setdefault(question.group, []).append(number)
        found = {self.name: self._measures(range(len(self.questions)), by_question)}
        each = {group: self._measures(numbers, by_question) for group, numbers in groups.items() if group}
        if len(each) > 1:
            found[self.name]["macro_accuracy"] = float(np.mean([of["accuracy"] for of in each.values()]))
        return found | {f"{self.name}/{group}": of for group, of in each.items()}

    def _measures(self, numbers: Sequence[int], losses: Sequence[np.ndarray]) -> Measures:
        chosen = [(self.questions[number], losses[number]) for number in numbers]
        sizes = [np.array([len(choice.encode()) for choice in question.choices]) for question, _ in chosen]
        right = np.array([int(of.argmin()) == question.gold for question, of in chosen])
        right_norm = np.array([int((of / n).argmin()) == q.gold for (q, of), n in zip(chosen, sizes, strict=True)])
        gold = np.array([of[question.gold] for question, of in chosen])
        gold_bytes = np.array([n[question.gold] for (question, _), n in zip(chosen, sizes, strict=True)])
        margins = np.array([np.delete(of, q.gold).min() - of[q.gold] for q, of in chosen if len(of) > 1])
        n, bits = len(chosen), math.log(2)
        found: Measures = {}
        for name, hits in (("accuracy", right), ("accuracy_norm", right_norm)):
            share = float(hits.mean())
            found |= {name: share, f"{name}_se": share_error(share, n)}
        if len(margins):
            found["margin"] = float(margins.mean())
            if len(margins) > 1:
                found["margin_se"] = mean_error(margins)
        found["bits_per_byte"] = float(gold.sum() / gold_bytes.sum()) / bits
        if n > 1:
            found["bits_per_byte_se"] = ratio_error(gold, gold_bytes) / bits
        return found | {"n_questions": n}
