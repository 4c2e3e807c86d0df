"""A property that is computed once per object, without a lock.

`functools.cached_property` holds, up to Python 3.11, one lock for all objects of a class while it computes: threads
that work on different matrices would wait for each other's decompositions. Here each object belongs to one thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

T = TypeVar("T")


class lazy(Generic[T]):
    """Decorator: the value of the method, kept in the object's dict under the method's name."""

    def __init__(self, compute: Callable[[Any], T]):
        self.compute = compute
        self.name = compute.__name__
        self.__doc__ = compute.__doc__

    @overload
    def __get__(self, owner: None, kind: type) -> lazy[T]: ...

    @overload
    def __get__(self, owner: object, kind: type | None = None) -> T: ...

    def __get__(self, owner: object | None, kind: type | None = None) -> lazy[T] | T:
        """Compute and keep; from then on the object's dict answers first."""
        if owner is None:
            return self
        value = owner.__dict__[self.name] = self.compute(owner)
        return value
