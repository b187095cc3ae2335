"""What the training loop knows of a method: a batch goes in, named losses come out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

Batch = Mapping[str, Tensor]
Losses = dict[str, Tensor]


class TaskModule(nn.Module, ABC):
    """A method. One step is `encode`, some `inner_losses`, then `losses`; names are those of the logs."""

    @abstractmethod
    def encode(self, batch: Batch) -> Any:
        """The training forward pass, in which the codebook moves; its result goes to the methods below."""

    @abstractmethod
    def inner_losses(self, state: Any) -> Losses:
        """Losses of the auxiliary nets on detached vectors; none for a method without such nets."""

    @abstractmethod
    def losses(self, state: Any) -> Losses:
        """Every term of the main objective, unweighted; no gradient reaches the auxiliary nets."""

    @abstractmethod
    def metrics(self, state: Any) -> dict[str, float]:
        """Figures that are logged and not trained on."""

    @abstractmethod
    def main_modules(self) -> Mapping[str, nn.Module]:
        """The modules of the main objective by name; gradients are clipped for each apart."""

    @abstractmethod
    def inner_modules(self) -> Iterator[nn.Module]:
        """The auxiliary nets."""
