"""One raw clip through the backbones: decoded within the limits, its first window alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tessera.bundle import AudioSpec, TimeGrid, VideoSpec
from tessera.errors import InputError, TrainingError
from tessera.limits import Limits
from tessera.media import Excerpt, read_audio, read_video
from tessera.windows import Modality
from training.backbones.backbone import Backbone
from training.backbones.catalogue import audio_backbone, video_backbone
from training.backbones.sentences import SentenceReader
from training.backbones.text_choice import TextChoice
from training.data.manifest import ClipRow

Arrays = dict[str, NDArray[np.generic]]

GRID = TimeGrid()
_FIRST_WINDOW = Excerpt(0.0, GRID.window_segments * GRID.hop_sec)


@dataclass(frozen=True)
class ReaderSettings:
    """What a worker needs to know: the backbones by modality, as `Choice` writes them, and for text the tokeniser."""

    choices: Mapping[Modality, str]
    tokenizer_json: str = ""
    limits: Limits = field(default_factory=Limits)
    device: str = "cpu"


class ClipReader:
    """Clips -> features.

    Raises:
        TrainingError: a choice names no backbone, or weights that are not its own.
    """

    def __init__(self, settings: ReaderSettings) -> None:
        choices, self._limits = settings.choices, settings.limits
        self._device = torch.device(settings.device)
        self.audio = audio_backbone(choices["audio"]).to(self._device) if "audio" in choices else None
        self.video = video_backbone(choices["video"]).to(self._device) if "video" in choices else None
        self.text: SentenceReader | None = None
        if "text" in choices:
            chosen = TextChoice.parse(choices["text"])
            self.text = SentenceReader(chosen, settings.tokenizer_json, settings.device)

    @torch.no_grad()
    def read(self, row: ClipRow) -> Arrays:
        """Of those that there are: `audio` f32 [T, Da], `video` f16 [T, G, G, Dv] of the first ten seconds, and of
        each of C captions `text` f32 [C, S, Dt] with `words` i64 [C].

        Raises:
            TrainingError: a file or caption cannot be read, or its features are no finite numbers.
        """
        arrays: Arrays = {}
        if row.audio is not None and self.audio is not None:
            with _named(f"'{row.audio}'"):
                arrays["audio"] = self._sound(self.audio, row.audio)
        if row.video is not None and self.video is not None:
            with _named(f"'{row.video}'"):
                arrays["video"] = self._picture(self.video, row.video)
        if self.text is not None:
            with _named("its caption"):
                arrays["text"], arrays["words"] = self.text(row.captions)
        for name, array in arrays.items():
            if not np.isfinite(array).all():
                raise TrainingError(f"its {name} features are no finite {array.dtype} numbers")
        return arrays

    def _sound(self, backbone: Backbone[AudioSpec], path: Path) -> NDArray[np.float32]:
        with read_audio(path, backbone.spec, GRID, self._limits, excerpt=_FIRST_WINDOW) as windows:
            waveform = next(windows).samples
        return self._run(backbone, waveform=torch.from_numpy(waveform))

    def _picture(self, backbone: Backbone[VideoSpec], path: Path) -> NDArray[np.float16]:
        with read_video(path, backbone.spec, GRID, self._limits, excerpt=_FIRST_WINDOW) as windows:
            frames = next(windows).frames
        # One second at a time: the maps of a deep network at full size take a hundred times the memory of its input.
        seconds = [self._run(backbone, frames=torch.from_numpy(second[None])) for second in frames]
        with np.errstate(over="ignore"):
            return np.concatenate(seconds).astype(np.float16)

    def _run(self, backbone: torch.nn.Module, **inputs: Tensor) -> NDArray[np.float32]:
        batch = {name: tensor[None].to(self._device) for name, tensor in inputs.items()}
        features: NDArray[np.float32] = backbone(**batch)[0].cpu().numpy()
        return features


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Say of what cannot be read which it is."""
    try:
        yield
    except InputError as error:
        hint = "; --audio none or --video none leaves one out" if error.code == "missing_track" else ""
        raise TrainingError(f"{what}: {error.message}{hint}") from None
    except OSError as error:
        raise TrainingError(f"{what}: {error.strerror or 'cannot be read'}") from None
