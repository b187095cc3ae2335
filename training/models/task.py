"""What the training loop knows of a method: a batch goes in, named losses come out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from tessera.windows import Modality
from training.config import Recipe
from training.quantizers.quantizer import Assignment, Quantizer

Batch = Mapping[str, Tensor]
Losses = dict[str, Tensor]
State = TypeVar("State")


class TaskModule(nn.Module, ABC, Generic[State]):
    """A method. One step is `encode`, some `inner_losses`, then `losses`; names are those of the logs.

    Every process holds its part of the batch. Losses are means over that part, so that their mean over processes is
    the loss of the whole batch; terms that compare clips compare them with those of all processes.
    """

    recipe: Recipe
    modalities: tuple[Modality, ...]
    quantizers: nn.ModuleList
    """One `Quantizer` a level."""

    # Inference: pure functions of their input, exported as they stand.

    @abstractmethod
    def segment_latents(
        self, modality: Modality, features: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Features [B, T, ...] of one modality -> latents [B, T, D] for each quantiser.

        Video features are maps [B, T, G, G, C] or, where the model needs no more, their spatial mean [B, T, C].
        `mask` bool [B, T] is True where a segment is real; segments come first, padding after.
        """

    def segment_codes(self, modality: Modality, features: Tensor, mask: Tensor | None = None) -> Assignment:
        """Features [B, T, ...] -> the codes and margins [B, T, L] of all quantisers, one after the other."""
        latents = self.segment_latents(modality, features, mask)
        parts = [q.assign(z) for q, z in zip(self.levels(), latents, strict=True)]
        return Assignment(torch.cat([p.codes for p in parts], -1), torch.cat([p.margins for p in parts], -1))

    def levels(self) -> Iterator[Quantizer]:
        """The quantisers, typed."""
        for quantizer in self.quantizers:
            assert isinstance(quantizer, Quantizer)
            yield quantizer

    # Training.

    def start(self, clips: Iterable[Batch]) -> None:
        """Set what is set from the clips before the first step; most methods have nothing of the kind."""

    @abstractmethod
    def encode(self, batch: Batch, generator: torch.Generator) -> State:
        """The training forward pass, in which the codebook moves; its result goes to the methods below.

        `batch` holds `audio` [B, T, .], `video` [B, T, G, G, .], `text` [B, S, .] and, unless every slot counts,
        `text_mask` bool [B, S]; or those of them that the method's modalities need. `generator` is for what all
        processes must draw alike.
        """

    @abstractmethod
    def inner_losses(self, state: State) -> Losses:
        """Losses of the auxiliary nets on detached vectors; none for a method without such nets."""

    @abstractmethod
    def losses(self, state: State, generator: torch.Generator) -> Losses:
        """Every term of the main objective, unweighted; no gradient reaches the auxiliary nets."""

    @abstractmethod
    def metrics(self, state: State) -> dict[str, float]:
        """Figures of the whole batch that are logged and not trained on; every process asks for them."""

    @abstractmethod
    def main_modules(self) -> Mapping[str, nn.Module]:
        """The modules of the main objective by name; gradients are clipped for each apart."""

    @abstractmethod
    def inner_modules(self) -> Iterator[nn.Module]:
        """The auxiliary nets."""

    def loss_weights(self) -> dict[str, float]:
        """Factors beside the recipe's weights that change in the course of training, by beginnings of names."""
        return {}

    def dormant_modules(self) -> Iterable[nn.Module]:
        """Modules of the main objective that are not to be trained yet."""
        return ()

    def observe(self, losses: Mapping[str, float]) -> None:
        """Take note of a step that was made, with its losses over the whole batch."""

    def forward(
        self,
        batch: Batch,
        generator: torch.Generator,
        inner_steps: Callable[[Callable[[], State]], None],
        encoded: Callable[[State], None],
    ) -> Losses:
        """One step but for the optimisers.

        `inner_steps` trains the auxiliary nets on the states that the function it is given returns; `encoded` is told
        of the state that the losses are of.
        """
        if self.recipe.training.encodes == "each":
            # As released, the pass that is trained on sees the codebook that the others have moved.
            inner_steps(lambda: self._encode_without_gradient(batch, generator))
            state = self.encode(batch, generator)
        else:
            state = self.encode(batch, generator)
            inner_steps(lambda: state)
        encoded(state)
        return self.losses(state, generator)

    @torch.no_grad()
    def _encode_without_gradient(self, batch: Batch, generator: torch.Generator) -> State:
        return self.encode(batch, generator)
