"""What is found as an entry point: metrics, components and stores, the built-in ones and those of plug-ins.

A `Registry` is one group of entry points, each of which names a spec. Listing names loads nothing; a spec is imported
when it is asked for. Two packages that claim one name are an error when that name is asked for, and a plug-in that does
not load hides no other. The registries stand beside their specs: `METRICS`, `COMPONENTS`, `STORES`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache, cached_property
from importlib import metadata
from importlib.metadata import EntryPoint
from typing import Any, Generic, Protocol, TypeVar

from pico_analyze.errors import PluginError, UsageError, nearest


@cache
def _installed() -> Any:
    """Every entry point of every package: looked for once, as looking takes some 10 ms."""
    return metadata.entry_points()


def entry_points(*, group: str) -> Iterable[EntryPoint]:
    """The entry points of one group."""
    found: Iterable[EntryPoint] = _installed().select(group=group)
    return found


class HasName(Protocol):
    """What a spec has at least."""

    @property
    def name(self) -> str:
        """The name it is asked for by."""
        ...


S = TypeVar("S", bound=HasName)


class Registry(Generic[S]):
    """The specs of one group of entry points.

    Args:
        group: Name of the group, such as ``pico_analyze.metrics``; its last word names what is in it.
        kind: Class of the specs.
    """

    def __init__(self, group: str, kind: type[S]) -> None:
        self.group, self.kind = group, kind
        self.what = group.rpartition(".")[2].removesuffix("s")
        self._loaded: dict[str, S] = {}

    @cached_property
    def _points(self) -> dict[str, tuple[EntryPoint, ...]]:
        by_name: dict[str, dict[str, EntryPoint]] = {}
        for point in entry_points(group=self.group):
            # One distribution can be seen twice (an editable install beside its source): same target, same thing.
            by_name.setdefault(point.name, {})[point.value] = point
        if not by_name:  # the built-in ones are entry points too
            raise PluginError(
                f"no {self.what} is known at all: what is installed of pico-analyze is not this version of it: "
                "install it again"
            )
        return {name: tuple(points.values()) for name, points in sorted(by_name.items())}

    def refresh(self) -> None:
        """Look for entry points again, after something was installed in this process."""
        _installed.cache_clear()
        self.__dict__.pop("_points", None)
        self._loaded.clear()

    def names(self) -> list[str]:
        """All names, without loading anything."""
        return list(self._points)

    def get(self, name: str) -> S:
        """The spec of this name.

        Raises:
            UsageError: there is none (the message names the nearest).
            PluginError: its plug-in does not load, is no such spec, or two packages claim the name.
        """
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
        return self._loaded[name]

    def each(self) -> Iterator[S | PluginError]:
        """Every spec by name; in the place of one that does not load, the error that says why."""
        for name in self._points:
            try:
                yield self.get(name)
            except PluginError as error:
                yield error

    def _load(self, name: str) -> S:
        points = self._points.get(name, ())
        if not points:
            known = self.names()
            raise UsageError(f"no {self.what} is called {name!r}{nearest(name, known)} (there are: {', '.join(known)})")
        if len(points) > 1:
            claims = " and ".join(_origin(point) for point in points)
            raise PluginError(f"{self.what} {name!r} is claimed by {claims}: uninstall one of them")
        point = points[0]
        try:
            spec = point.load()
        except Exception as error:  # whatever a plug-in raises while importing, the others stay usable
            raise PluginError(
                f"{self.what} {name!r} from {_origin(point)} does not load ({type(error).__name__}: {error}): "
                "update or uninstall that package"
            ) from error
        if not isinstance(spec, self.kind):
            raise PluginError(
                f"{self.what} {name!r} from {_origin(point)} is a {type(spec).__name__}, not a {self.kind.__name__}: "
                "its entry point has to name one"
            )
        if spec.name != name:
            raise PluginError(
                f"{self.what} {name!r} from {_origin(point)} calls itself {spec.name!r}: entry point and name have to "
                "agree"
            )
        return spec


def _origin(point: EntryPoint) -> str:
    package = f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown package"
    return f"{package} ({point.value})"
