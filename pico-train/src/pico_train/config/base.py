"""What every section of the configuration is made of: the strict, immutable base class and shared types of values.

What is written is what holds: text is no number, true is no 1, and nothing is rounded. Two things are taken for what
they plainly mean: a whole number written as 1e3 or 5.0, and one value where a list of values goes.
"""

from __future__ import annotations

import re
from math import isqrt
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

MAX_COUNT = 2**31 - 1
"""Largest count of anything: what 32-bit sizes and indices of the libraries below can hold."""
_NO_CHARACTER = re.compile("[\\0\\ud800-\\udfff]")


def divisors(number: int) -> list[int]:
    """The divisors of a number above 0, ascending."""
    low = [n for n in range(1, isqrt(number) + 1) if number % n == 0]
    return sorted({*low, *(number // n for n in low)})


def _whole(value: Any) -> Any:
    """A whole number that is written as 1e3 or 5.0."""
    exact = isinstance(value, float) and abs(value) <= 2**53 and value.is_integer()
    return int(value) if exact else value


def _several(value: Any) -> Any:
    """A list, or one value that stands for a list of one, as a tuple."""
    if isinstance(value, list | tuple):
        return tuple(value)
    return (value,) if isinstance(value, str | int | float) and not isinstance(value, bool) else value


T = TypeVar("T")

Whole = BeforeValidator(_whole)
"""Takes 1e3 and 5.0 for the whole numbers that they are; goes with every integer, after its bounds."""
PositiveInt = Annotated[int, Field(gt=0, le=MAX_COUNT), Whole]
NonNegativeInt = Annotated[int, Field(ge=0, le=MAX_COUNT), Whole]
Seed = Annotated[int, Field(ge=0, lt=2**63), Whole]
Listed = Annotated[tuple[T, ...], BeforeValidator(_several)]
"""Several values, or one that stands for a list of one."""


class Section(BaseModel):
    """Base of every part of the tree."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        validate_default=True,
    )

    @field_validator("*")
    @classmethod
    def _written_in_characters(cls, value: Any) -> Any:
        """Every text can be stored as UTF-8 and handed to the operating system."""
        for text in value if isinstance(value, tuple) else (value,):
            if isinstance(text, str) and _NO_CHARACTER.search(text):
                raise ValueError(f"{text!r} has something in it that is no character of a text")
        return value
