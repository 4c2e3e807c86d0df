"""Which versions of which packages compute: rows are computed again when one of them changes."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import pico_schema
from pico_analyze.components.spec import COMPONENTS, ComponentSpec
from pico_analyze.metrics.spec import METRICS, MetricSpec
from pico_analyze.version import __version__

if TYPE_CHECKING:
    from pico_analyze.questions.question import Question

_OURS = {"pico_analyze": __version__, "pico_schema": pico_schema.__version__}


def code_version(spec: MetricSpec | ComponentSpec) -> str:
    """Version of the package a metric or component comes from, and the metric's own revision: its rows are computed
    again when one of them changes."""
    version = package_version(_package(spec))
    revision = spec.revision if isinstance(spec, MetricSpec) else 0
    return f"{version}, revision {revision}" if revision else version


def _package(spec: MetricSpec | ComponentSpec) -> str:
    function = spec.fn if isinstance(spec, MetricSpec) else spec.build
    return function.__module__.partition(".")[0]


@cache
def package_version(package: str) -> str:
    """Version of an installed package, by the name it is imported by.

    Of ours, that of what runs: an editable package's metadata is that of the day it was installed.
    """
    if package in _OURS:
        return _OURS[package]
    try:
        return version(package.replace("_", "-"))
    except PackageNotFoundError:
        return __version__


def package_versions(questions: Iterable[Question]) -> dict[str, str]:
    """Version of each package that metrics and components of questions come from, of the contract, and of ours."""
    specs: list[MetricSpec | ComponentSpec] = []
    for question in questions:
        specs.append(COMPONENTS.get(question.component.name))
        specs += [METRICS.get(use.name) for use in question.metrics]
    packages = {"pico_analyze", "pico_schema", *(_package(spec) for spec in specs)}
    return {package: package_version(package) for package in sorted(packages)}
