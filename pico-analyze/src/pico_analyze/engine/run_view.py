"""One run, seen through one question: the steps and units that are asked for, and what each checkpoint lacks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from pico_analyze.components.spec import COMPONENTS, Unit
from pico_analyze.errors import DataError, UsageError, nearest
from pico_analyze.questions.question import Question, existing
from pico_analyze.stores.base import DATA, Data, NamesInputs, NamesTensors, StepInfo, Store
from pico_analyze.stores.sites import TENSOR, MatrixSite, check_site, in_order
from pico_schema import SiteError


class RunView:
    """The run's steps and units that a question is about.

    Raises:
        UsageError: a step, layer or site that does not exist here; the message names those that do.
        DataError: nothing of what is asked for is held.
    """

    def __init__(self, store: Store, question: Question) -> None:
        self.store, self.question = store, question
        self.name = f"run {store.run!r}"
        self.known = store.steps()
        if not self.known:
            lacking = f" ({len(store.unusable())} incomplete)" if store.unusable() else ""
            raise DataError(f"{self.name} has no complete checkpoint{lacking}: let it train, or name another run")
        self._check_complete()
        chosen = question.steps.pick([info.step for info in self.known], what="step", of=self.name)
        self.steps = [info for info in self.known if info.step in set(chosen)]
        self.model = store.spec(self.steps[-1].step)
        self.component = COMPONENTS.get(question.component.name)
        self.what = question.data if question.split is None else f"{question.split} {question.data}"
        self._sets: dict[tuple[int, Data], frozenset[str]] = {}
        self._contents: dict[tuple[int, Unit], object] = {}
        self.units = self._units()

    def _check_complete(self) -> None:
        """Refuse a step that is asked for by number and whose checkpoint is not complete."""
        named = {part.strip() for part in self.question.steps.text.split(",")}
        complete = [info.step for info in self.known]
        for lost in self.store.unusable():
            if str(lost.step) in named and lost.step not in complete:
                raise DataError(
                    f"step {lost.step} of {self.name} cannot be used: {lost.name}: {lost.reason}; "
                    f"{existing('step', complete, self.name)}"
                )

    def _units(self) -> list[Unit]:
        """The units asked for that at least one step of the run holds."""
        question, n_layers = self.question, self.model.n_layers
        held = in_order(site for info in self.known for site in self._held(info, question.data))
        if not held:
            raise DataError(self._why_unknown() or f"{self.name} holds no {self.what}: {self._holdings()}")
        wanted = self._sites(held) if question.sites is not None else self._default_sites(held)
        units = self.component.units(self.model, question.data, wanted)
        if question.layers is not None:
            named = {unit.layer for unit in units if unit.layer is not None and unit.site.startswith(TENSOR)}
            layers = question.layers.pick(sorted({*range(n_layers), *named}), what="layer", of="this model")
            units = [unit for unit in units if unit.layer in layers]
        if question.sites is not None and not {unit.site for unit in units} & {
            MatrixSite.parse(s).kind for s in wanted
        }:
            raise UsageError(f"component {self.component.name!r} chooses its own sites: leave --site out")
        possible = [unit for unit in units if any(not self.lacks(info, unit) for info in self.known)]
        if not possible:
            need = self.lacks(self.known[-1], units[0]) if units else None
            if need is None:
                raise DataError(f"{self.name} holds no {self.what} for component {self.component.name!r}")
            raise DataError(
                f"{self.name}: component {self.component.name!r} needs {need[0]} at {need[1]}, which no checkpoint "
                f"holds: {self._holdings()}"
            )
        return possible

    def _default_sites(self, held: list[str]) -> list[str]:
        """Where --site is left out: the captured sites, of weights too, if it is sites that the component takes."""
        if not self.component.takes_sites or self.question.data != "weights":
            return held
        captured = {
            site
            for info in self.known
            for split in info.splits.values()
            for site in (*split.activations, *split.gradients)
        }
        return [site for site in held if site in captured] or held

    def _sites(self, held: list[str]) -> list[str]:
        chosen: list[str] = []
        for name in self.question.sites or ():
            matching = [site for site in held if MatrixSite.parse(site).is_named_by(name)]
            if not matching:
                raise UsageError(self._no_such_site(name, held))
            chosen += matching
        return in_order(chosen)

    def _no_such_site(self, name: str, held: list[str]) -> str:
        """What to say of a site that nothing held is called."""
        try:
            check_site(name)
        except SiteError as error:
            return str(error)
        if name.startswith(TENSOR):
            kinds = in_order(
                MatrixSite.parse(site).kind.removeprefix(TENSOR) for site in held if site.startswith(TENSOR)
            )
            what = f"tensor {name.removeprefix(TENSOR)!r} is not among the matrices"
        else:
            kinds = in_order(MatrixSite.parse(site).family for site in held if not site.startswith(TENSOR))
            what = f"site {name!r} is not among the {self.what}"
        near = nearest(name.removeprefix(TENSOR), kinds)
        there = f"there are {', '.join(kinds[:24])}{', …' if len(kinds) > 24 else ''}" if kinds else "there are none"
        return f"{what} of {self.name}{near} ({there})"

    def _held(self, info: StepInfo, data: Data) -> tuple[str, ...]:
        """Sites of which a step holds this kind of data, and its tensors where one is named."""
        sites = info.sites(data, self.question.split)
        named = any(site.startswith(TENSOR) for site in self.question.sites or ())
        if named and data == "weights" and isinstance(self.store, NamesTensors):
            return (*sites, *self.store.tensors(info.step))
        return sites

    def _held_set(self, info: StepInfo, data: Data) -> frozenset[str]:
        """The same, to look one up: of a mixture of experts there are tens of thousands."""
        key = info.step, data
        if key not in self._sets:
            self._sets[key] = frozenset(self._held(info, data))
        return self._sets[key]

    def _why_unknown(self) -> str | None:
        """Why no tensor of the run is at a site, where its architecture is not known."""
        if self.question.data == "weights" and isinstance(self.store, NamesTensors):
            return self.store.without_site(self.known[-1].step).unknown
        return None

    def _holdings(self) -> str:
        """What the run's checkpoints hold, for messages."""
        found = []
        for split in (None, "val", "train"):
            for data in DATA if split else DATA[:1]:
                sites = (site for info in self.known for site in info.sites(data, split))
                kinds = in_order(MatrixSite.parse(site).family for site in sites)
                if kinds and (split is None) == (data == "weights"):
                    found.append(f"{data if split is None else f'{split} {data}'} at {', '.join(kinds)}")
        held = f"it holds {'; '.join(found)}" if found else "it holds nothing to measure"
        if self.question.data == "noise":
            return f"{held}; pico-train keeps it where captures.noise=N says of how many parts of the batch"
        models = isinstance(self.store, NamesTensors) and self.question.data != "weights"
        return (
            f"{held}; `pico-analyze capture {self.store.location}` runs its models and keeps them" if models else held
        )

    def lacks(self, info: StepInfo, unit: Unit) -> tuple[Data, str] | None:
        """The first tensor that a unit needs and a step does not hold, or None."""
        for data, site in self.component.needs(self.question.data, unit):
            if site not in self._held_set(info, data):
                return data, site
        return None

    def content(self, info: StepInfo, unit: Unit) -> object:
        """What stands for the bytes that a unit of a step is made of: rows are computed again when it changes."""
        if info.sealed or not isinstance(self.store, NamesInputs):
            return info.digest
        key = info.step, unit
        if key not in self._contents:
            split, found = self.question.split, set[tuple[str, str, str]]()
            for data, site in self.component.needs(self.question.data, unit):
                inputs = self.store.inputs(info.step, None if data == "weights" else split, data, site)
                found |= {(one.file, one.sha256, one.of) for one in inputs or ()}
            self._contents[key] = sorted(found) or info.digest
        return self._contents[key]

    def missing(self, info: StepInfo, unit: Unit, skipped: Counter[str]) -> bool:
        """Whether a step lacks what a unit needs; counts it, once per step where the step lacks everything."""
        need = self.lacks(info, unit)
        if need is None:
            return False
        data, site = need
        if not info.sites(data, self.question.split):
            of = data if data == "weights" else f"{self.question.split} {data}"
            skipped[f"step {info.step} of {self.name} has no {of}"] += 1
        else:
            skipped[f"step {info.step} of {self.name} has no {data} at {site}"] += 1
        return True

    def matrices(self, skipped: Counter[str]) -> Iterator[tuple[StepInfo, Unit]]:
        """Each unit at each step that holds it."""
        for info in self.steps:
            for unit in self.units:
                if not self.missing(info, unit, skipped):
                    yield info, unit

    def holding(self) -> list[StepInfo]:
        """All steps of the run that hold at least one of the units."""
        return [info for info in self.known if any(not self.lacks(info, unit) for unit in self.units)]
