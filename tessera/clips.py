"""One input on its way through the graphs: it yields windows, and knows its times once it is read to the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from tessera.limits import Limits, Truncate
from tessera.manifest import AudioSpec, TimeGrid, VideoSpec
from tessera.media import AudioReader, Excerpt, Source, VideoReader, read_audio, read_video
from tessera.windows import Modality, Window


class Clip(Protocol):
    """Iterate once, to the end; `duration_sec` and `truncated` are true from then on. Iterating may block."""

    modality: Modality
    hop_sec: float | None

    @property
    def start_sec(self) -> float:
        """When the first segment starts, in seconds of the input."""

    @property
    def duration_sec(self) -> float | None:
        """Seconds of media that became codes; None for text and features."""

    @property
    def truncated(self) -> bool:
        """Whether a part was dropped because the input was too long."""

    def __iter__(self) -> Iterator[Window]:
        """The windows, in order."""

    def close(self) -> None:
        """Free the decoder. Idempotent."""


@dataclass
class MediaClip:
    """Audio or video, decoded one window at a time, so that a long clip is never in memory whole."""

    modality: Modality
    reader: AudioReader | VideoReader
    hop_sec: float | None

    @property
    def start_sec(self) -> float:
        """The start of the excerpt, or later where the start was dropped."""
        return self.reader.start_sec

    @property
    def duration_sec(self) -> float | None:
        """Seconds decoded so far."""
        return self.reader.duration_sec

    @property
    def truncated(self) -> bool:
        """Whether the clip was cut at the limit."""
        return self.reader.truncated

    def __iter__(self) -> Iterator[Window]:
        if isinstance(self.reader, AudioReader):
            for waveform in self.reader:
                yield Window("audio", {"waveform": waveform.samples}, waveform.segments)
        else:
            for picture in self.reader:
                yield Window("video", {"frames": picture.frames}, picture.segments)

    def close(self) -> None:
        """Close the container."""
        self.reader.close()


def open_media(
    source: Source,
    spec: AudioSpec | VideoSpec,
    grid: TimeGrid,
    limits: Limits,
    excerpt: Excerpt,
    truncate: Truncate,
) -> MediaClip:
    """The audio or video of `source` for the backbone of `spec`; reads headers, decodes when iterated.

    Raises:
        InputError: as `tessera.media.read_audio`.
    """
    if isinstance(spec, AudioSpec):
        sound = read_audio(source, spec, grid, limits, excerpt=excerpt, truncate=truncate)
        return MediaClip("audio", sound, grid.hop_sec)
    picture = read_video(source, spec, grid, limits, excerpt=excerpt, truncate=truncate)
    return MediaClip("video", picture, grid.hop_sec)


@dataclass
class ReadyClip:
    """Text or features: its windows are known at once."""

    modality: Modality
    windows: Sequence[Window]
    truncated: bool = False
    start_sec: float = 0.0
    hop_sec: float | None = None
    duration_sec: float | None = None

    def __iter__(self) -> Iterator[Window]:
        return iter(self.windows)

    def close(self) -> None:
        """Nothing to free."""
