"""`tessera serve` with a tokenizer whose device dies on a text of seven words, once SIGUSR1 says so."""

from __future__ import annotations

import signal
import threading
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

import service.bundles
from tessera.cli import main
from tessera.tokenizer import Tokenizer
from tessera.windows import Arrays, Modality, Stage

DEADLY_WORDS = 7
_die = threading.Event()


class Mortal(Tokenizer):
    """Runs as any tokenizer until it dies."""

    def run_batch(
        self, modality: Modality, stage: Stage, batch: Mapping[str, NDArray[Any]], *, full: bool = True
    ) -> Arrays:
        """Wait for the signal and take the device thread along, if this is the deadly text."""
        if "slots" in batch and batch["slots"].shape[1] == DEADLY_WORDS:
            _die.wait(300)
            raise SystemExit
        return super().run_batch(modality, stage, batch, full=full)


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, lambda *_: _die.set())
    service.bundles.Tokenizer = Mortal  # type: ignore[misc]
    main()
