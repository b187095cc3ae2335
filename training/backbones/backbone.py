"""What every backbone is: a frozen module that states what it takes."""

from __future__ import annotations

from typing import Generic, TypeVar

from torch import nn

from tessera.bundle import AudioSpec, TextSpec, VideoSpec

Spec = TypeVar("Spec", AudioSpec, VideoSpec, TextSpec)


class Backbone(nn.Module, Generic[Spec]):
    """Media -> features. `forward` is called by keyword, with the names of the graph's inputs in the bundle."""

    spec: Spec
