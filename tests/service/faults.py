"""Real tokenizers with one fault each: the faults that no client can cause."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from tessera.tokenizer import Tokenizer
from tessera.windows import Arrays, Modality, Stage


class Faulty(Tokenizer):
    """Runs as any tokenizer, except for what its switches say."""

    def arm(self) -> Faulty:
        """Set the switches: open, no poison, alive. Returns itself."""
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.poisonous_segments: int | None = None
        self.deadly = False
        return self

    def run_batch(
        self, modality: Modality, stage: Stage, batch: Mapping[str, NDArray[Any]], *, full: bool = True
    ) -> Arrays:
        """Wait at the gate, then run, fail on poison, or take the device thread along."""
        self.entered.set()
        self.gate.wait(300)
        if self.deadly:
            raise SystemExit
        segments = batch["slots"].shape[1] if "slots" in batch else None
        if segments is not None and segments == self.poisonous_segments:
            raise ValueError("a secret of the server in /some/path")
        return super().run_batch(modality, stage, batch, full=full)
