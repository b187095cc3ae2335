"""Real tokenizers with one fault each: the faults that no client can cause."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from tessera.tokenizer import Tokenizer
from tessera.windows import Window, WindowCodes


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

    def run(self, windows: Sequence[Window]) -> list[WindowCodes]:
        """Wait at the gate, then run, fail on poison, or take the device thread along."""
        self.entered.set()
        self.gate.wait(300)
        if self.deadly:
            raise SystemExit
        if any(window.segments == self.poisonous_segments for window in windows):
            raise ValueError("a secret of the server in /some/path")
        return super().run(windows)
