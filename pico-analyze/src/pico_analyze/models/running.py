"""A loaded model, put through rows of tokens: activations at chosen places, and gradients of the mean token loss.

Letters: N rows, of which B at a time; T positions that a model reads, P of them kept; F features; V vocabulary.
In memory there is the model, what one batch takes, and what is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pico_analyze.errors import DataError
from pico_analyze.models.places import State
from pico_schema.layout import activation_tensor, gradient_tensor

if TYPE_CHECKING:
    from pico_analyze.models.places import Place
    from pico_schema import ModelSpec


@dataclass
class Taken:
    """What was taken of one model."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    """By their names in a captures file, on the CPU."""
    loss: float | None = None
    """Mean token loss over all rows, in nats, where gradients were taken."""


def state_of(model: Any) -> State:
    """What a loaded model has, by name."""
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    modules = dict(model.named_modules())
    ends = {"embed": _end(model.get_input_embeddings), "head": _end(model.get_output_embeddings)}
    named = {kind: name for kind, end in ends.items() for name, module in modules.items() if module is end is not None}
    conv = frozenset(name for name, module in modules.items() if type(module).__name__ == "Conv1D")
    return State(shapes, conv, named)


def _end(get: Callable[[], Any]) -> Any:
    """What a model says is its embedding or head; None where its code does not say it."""
    try:
        return get()
    except (NotImplementedError, AttributeError):
        return None


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """So many threads for one operation of torch while the block runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, count))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def take(
    model: nn.Module,
    places: Sequence[Place],
    spec: ModelSpec,
    ids_NT: np.ndarray,
    positions: Sequence[int],
    *,
    gradients: bool,
    batch_size: int,
    device: str,
) -> Taken:
    """Activations at places, of all rows at some positions, and the gradients of their weights.

    Args:
        model: In evaluation mode.
        places: Where to take what.
        spec: The model's geometry, by which fused gradients are cut.
        ids_NT: (N, T + 1) token ids; the last of a row is only predicted.
        positions: Of 0 to T - 1, ascending.
        gradients: Whether to take gradients: of the mean token loss over all rows and positions, not clipped.
        batch_size: Rows of a forward pass.
        device: Where the model is.

    Returns:
        Activations (N × P, F), ordered by (row, position), and gradients of their weights' shape, (out, in).

    Raises:
        DataError: a module gives what is no activation of tokens, or something is not finite.
    """
    n_rows, seq_len = len(ids_NT), ids_NT.shape[1] - 1
    tap = _Tap(n_rows, torch.tensor(list(positions), device=device))
    loss = 0.0
    with ExitStack() as stack:
        stack.enter_context(tap.on(model, places))
        sums = stack.enter_context(_summed(model, places)) if gradients else {}
        for first in range(0, n_rows, batch_size):
            batch = torch.as_tensor(np.asarray(ids_NT[first : first + batch_size], np.int64)).to(device)
            tap.begin(first, len(batch), seq_len)
            if gradients:
                logits_BTV = model(input_ids=batch[:, :-1], use_cache=False).logits
                each = F.cross_entropy(logits_BTV.float().flatten(0, 1), batch[:, 1:].flatten(), reduction="sum")
                mean = each / (n_rows * seq_len)
                mean.backward()
                loss += float(mean.detach())
                del logits_BTV, each, mean
            else:
                with torch.no_grad():
                    _forward(model, places, batch[:, :-1])
            tap.end()
        taken = Taken(tap.activations(places), loss if gradients else None)
        if gradients:
            taken.tensors |= {
                gradient_tensor(place.site): _gradient(place, sums, spec)
                for place in places
                if place.source is not None
            }
    _check_finite(taken)
    return taken


def _forward(model: nn.Module, places: Sequence[Place], ids_BT: Tensor) -> None:
    """A pass as far as it is needed: logits are formed where the head's output is wanted, and nowhere else."""
    base = getattr(model, "base_model", model)
    prefix = getattr(model, "base_model_prefix", "")
    inside = bool(prefix) and base is not model and all(place.module.startswith(f"{prefix}.") for place in places)
    (base if inside else model)(input_ids=ids_BT, use_cache=False)


class _Tap:
    """Keeps what modules give at the kept positions."""

    def __init__(self, n_rows: int, positions_P: Tensor) -> None:
        self._n_rows, self._positions_P = n_rows, positions_P
        self._kept: dict[str, Tensor] = {}
        self._now: dict[str, Tensor] = {}
        self._first = self._rows = self._seq_len = 0

    @contextmanager
    def on(self, model: nn.Module, places: Sequence[Place]) -> Iterator[None]:
        modules = dict(model.named_modules())
        handles = []
        for place in places:
            if place.module not in modules:
                raise DataError(f"the loaded model has no module {place.module!r}, where site {place.site} is")
            columns = None if place.columns is None else torch.as_tensor(place.columns, device=self._positions_P.device)
            keep = self._keeper(place, columns)
            module = modules[place.module]
            handles.append(
                module.register_forward_pre_hook(lambda _module, args, keep=keep: keep(args[0] if args else None))
                if place.is_input
                else module.register_forward_hook(lambda _module, _args, output, keep=keep: keep(output))
            )
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def begin(self, first: int, rows: int, seq_len: int) -> None:
        self._first, self._rows, self._seq_len = first, rows, seq_len
        self._now.clear()

    def _keeper(self, place: Place, columns: Tensor | None) -> Callable[[Any], None]:
        what = "takes in" if place.is_input else "gives"

        def keep(output: Any) -> None:
            found = output[0] if isinstance(output, tuple) else output
            # Some blocks put all positions of all rows into one axis.
            if not isinstance(found, Tensor) or found.numel() % max(1, self._rows * self._seq_len):
                raise DataError(f"module {place.module!r} {what} what is no activation of {self._seq_len} tokens")
            given = found.detach().reshape(self._rows, self._seq_len, -1)
            kept = given.index_select(1, self._positions_P)  # a copy: some modules add to their output in place
            self._now[place.site] = kept if columns is None else kept.index_select(2, columns)

        return keep

    def end(self) -> None:
        for site, now_BPF in self._now.items():
            if site not in self._kept:
                shape = (self._n_rows, *now_BPF.shape[1:])
                self._kept[site] = torch.empty(shape, dtype=now_BPF.dtype)
            self._kept[site][self._first : self._first + self._rows] = now_BPF.cpu()

    def activations(self, places: Sequence[Place]) -> dict[str, Tensor]:
        for place in places:
            if place.site not in self._kept:
                raise DataError(f"the model does not call module {place.module!r}, where site {place.site} is")
        return {activation_tensor(place.site): self._kept[place.site].flatten(0, 1) for place in places}


@contextmanager
def _summed(model: nn.Module, places: Sequence[Place]) -> Iterator[Mapping[str, Tensor]]:
    """Sums of gradients over batches, in float32, by the names of parameters; no others are computed."""
    parameters = dict(model.named_parameters(remove_duplicate=False))  # a tied head has its name too
    wanted = {place.source.tensor: parameters[place.source.tensor] for place in places if place.source is not None}
    before = {parameter: parameter.requires_grad for parameter in model.parameters()}
    sums = {id(parameter): torch.zeros_like(parameter, dtype=torch.float32) for parameter in wanted.values()}

    def add(parameter: Tensor) -> None:
        assert parameter.grad is not None
        sums[id(parameter)] += parameter.grad
        parameter.grad = None

    for parameter in before:
        parameter.requires_grad_(False)
    handles = []
    for parameter in dict.fromkeys(wanted.values()):
        parameter.requires_grad_()
        handles.append(parameter.register_post_accumulate_grad_hook(add))  # type: ignore[no-untyped-call]
    try:
        yield {name: sums[id(parameter)] for name, parameter in wanted.items()}
    finally:
        for handle in handles:
            handle.remove()
        for parameter, required in before.items():
            parameter.requires_grad_(required)


def _gradient(place: Place, sums: Mapping[str, Tensor], spec: ModelSpec) -> Tensor:
    assert place.source is not None
    whole = sums[place.source.tensor].cpu().numpy()
    return torch.from_numpy(np.ascontiguousarray(place.source.cut(whole, spec)))


def _check_finite(taken: Taken) -> None:
    for name, tensor in taken.tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise DataError(f"{name} is not finite: the model is broken, or computes beyond what its type can hold")


def stored(tensor: Tensor) -> tuple[str, tuple[int, ...], memoryview]:
    """A tensor as a safetensors file holds it: type, shape and bytes."""
    names = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
    plain = tensor.contiguous()
    bits = plain.view(torch.int16) if plain.dtype == torch.bfloat16 else plain
    return names[plain.dtype], tuple(plain.shape), memoryview(bits.numpy().data).cast("B")
