"""Which metrics and components there are: the built-in ones and those of plug-ins, all found as entry points.

Groups `pico_analyze.metrics` and `pico_analyze.components`; an entry point names a `MetricSpec` or a
`ComponentSpec`. Listing names loads nothing; a spec is imported when it is asked for. Two packages that claim
one name are an error when that name is asked for, and a plug-in that does not load hides no other.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from pico_analyze.errors import PluginError, UsageError, nearest
from pico_analyze.spec import ComponentSpec, MetricSpec

METRICS = "pico_analyze.metrics"
COMPONENTS = "pico_analyze.components"

S = TypeVar("S", MetricSpec, ComponentSpec)


@cache
def _found(group: str) -> dict[str, tuple[EntryPoint, ...]]:
    by_name: dict[str, dict[str, EntryPoint]] = {}
    for point in entry_points(group=group):
        # One distribution can be seen twice (an editable install beside its source): same target, same thing.
        by_name.setdefault(point.name, {})[point.value] = point
    return {name: tuple(points.values()) for name, points in sorted(by_name.items())}


def refresh() -> None:
    """Look for entry points again, after something was installed in this process."""
    _found.cache_clear()


def metric_names() -> list[str]:
    """Names of all metrics, without loading any."""
    return list(_found(METRICS))


def component_names() -> list[str]:
    """Names of all components, without loading any."""
    return list(_found(COMPONENTS))


def get_metric(name: str) -> MetricSpec:
    """The metric of this name.

    Raises:
        UsageError: there is none (the message names the nearest).
        PluginError: its plug-in does not load, is no MetricSpec, or two packages claim the name.
    """
    return _load(METRICS, name, MetricSpec)


def get_component(name: str) -> ComponentSpec:
    """The component of this name; raises as `get_metric` does."""
    return _load(COMPONENTS, name, ComponentSpec)


def metrics() -> Iterator[MetricSpec | PluginError]:
    """Every metric by name; in the place of one that does not load, the error that says why."""
    yield from _each(METRICS, MetricSpec)


def components() -> Iterator[ComponentSpec | PluginError]:
    """Every component by name; in the place of one that does not load, the error that says why."""
    yield from _each(COMPONENTS, ComponentSpec)


def _each(group: str, expected: type[S]) -> Iterator[S | PluginError]:
    for name in _found(group):
        try:
            yield _load(group, name, expected)
        except PluginError as error:
            yield error


def _load(group: str, name: str, expected: type[S]) -> S:
    what = group.rpartition(".")[2][:-1]
    points = _found(group).get(name, ())
    if not points:
        known = list(_found(group))
        raise UsageError(f"no {what} is called {name!r}{nearest(name, known)} (there are: {', '.join(known)})")
    if len(points) > 1:
        claims = " and ".join(_origin(point) for point in points)
        raise PluginError(f"{what} {name!r} is claimed by {claims}: uninstall one of them")
    point = points[0]
    try:
        spec = point.load()
    except Exception as error:  # whatever a plug-in raises while importing, the others stay usable
        raise PluginError(
            f"{what} {name!r} from {_origin(point)} does not load ({type(error).__name__}: {error}): "
            "update or uninstall that package"
        ) from error
    if not isinstance(spec, expected):
        raise PluginError(
            f"{what} {name!r} from {_origin(point)} is a {type(spec).__name__}, not a {expected.__name__}: "
            "its entry point has to name one"
        )
    if spec.name != name:
        raise PluginError(
            f"{what} {name!r} from {_origin(point)} calls itself {spec.name!r}: entry point and name have to agree"
        )
    return spec


def _origin(point: EntryPoint) -> str:
    package = f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown package"
    return f"{package} ({point.value})"
