"""Muon for the matrices of the blocks and AdamW for the rest, as one optimizer; and Muon where matrices are sharded.

The update of a matrix is momentum, orthogonalised by five Newton-Schulz iterations in bfloat16 (Jordan et al. 2024,
kellerjordan.github.io/posts/muon), which is torch's `Muon`. It needs the matrix whole. torch's works on the shards of
FSDP2 too, with a collective for each of fifteen products and rounding at each that training on one device does not
have: here the momentum stays sharded, and each matrix is gathered once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor


class GatheringMuon(torch.optim.Muon):
    """torch's Muon; of a sharded matrix, each process orthogonalises the whole update and keeps its part."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update. A collective where parameters are sharded."""
        if not any(isinstance(p, DTensor) for group in self.param_groups for p in group["params"]):
            return super().step(closure)  # type: ignore[no-untyped-call]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        return loss

    def _update(self, parameter: DTensor, group: Mapping[str, Any]) -> None:
        gradient, state = parameter.grad, self.state[parameter]
        assert isinstance(gradient, DTensor)
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        momentum: DTensor = state["momentum_buffer"]
        momentum.lerp_(gradient, 1 - group["momentum"])
        looked = gradient.lerp(momentum, group["momentum"]) if group["nesterov"] else momentum
        assert isinstance(looked, DTensor)
        # Where weights are kept on the host, the products are still the device's.
        step = self._orthogonalised(looked.full_tensor().to(parameter.device_mesh.device_type), group)
        mine = distribute_tensor(step, parameter.device_mesh, parameter.placements, src_data_rank=None)
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(mine.to(parameter.device))

    @staticmethod
    def _orthogonalised(update: Tensor, group: Mapping[str, Any]) -> Tensor:
        """What torch's Muon adds to a whole matrix, given momentum that is up to date."""
        matrix = nn.Parameter(torch.zeros_like(update))
        matrix.grad = update
        own = {name: group[name] for name in ("lr", "ns_coefficients", "eps", "ns_steps", "adjust_lr_fn")}
        torch.optim.Muon([matrix], weight_decay=0.0, momentum=0.0, nesterov=False, **own).step()  # type: ignore[no-untyped-call]
        return matrix.detach()


class MuonWithAdamW(torch.optim.Optimizer):
    """Two optimizers as one: its groups are theirs, Muon's first, and so is its state, by parameter.

    Args:
        matrices: groups of matrices, for Muon.
        rest: groups of all other parameters, for AdamW.
        muon: settings of `torch.optim.Muon`.
        adamw: settings of `torch.optim.AdamW`.
    """

    def __init__(
        self,
        matrices: Sequence[dict[str, Any]],
        rest: Sequence[dict[str, Any]],
        *,
        muon: Mapping[str, Any],
        adamw: Mapping[str, Any],
    ) -> None:
        self._muon = GatheringMuon(list(matrices), **muon)
        self._adamw = torch.optim.AdamW(list(rest), **adamw)
        super().__init__([*self._muon.param_groups, *self._adamw.param_groups], {})
        self._share()

    def _share(self) -> None:
        """Let both work on the groups and the state of this one."""
        n_muon = len(self._muon.param_groups)
        self._muon.param_groups, self._adamw.param_groups = self.param_groups[:n_muon], self.param_groups[n_muon:]
        self._muon.state = self._adamw.state = self.state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take a state that was loaded: other groups and another dictionary."""
        super().__setstate__(state)
        self._share()

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of all parameters. A collective where they are sharded."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._muon.step()
        self._adamw.step()
        return loss
