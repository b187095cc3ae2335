"""The only way media enters: bytes or a path -> windows on the time grid of a bundle, within limits.

Containers: wav, mp3, ogg, flac, mp4 and its kin (mov, m4a, 3gp), matroska and webm. Codecs: PCM, mp3, AAC,
Opus, Vorbis, FLAC, ALAC; H.264, HEVC, VP8, VP9, AV1, MPEG-4. A file that breaks off yields what it holds.
"""

from __future__ import annotations

from dataclasses import dataclass

from tessera.bundle import AudioSpec, TimeGrid, VideoSpec
from tessera.containers import MediaFile, Source, readable
from tessera.errors import InputError
from tessera.limits import Limits, Truncate
from tessera.picture import Frames, VideoReader
from tessera.readers import Excerpt
from tessera.sound import AudioReader, Waveform

__all__ = [
    "AudioReader",
    "Excerpt",
    "Frames",
    "MediaInfo",
    "Source",
    "VideoReader",
    "Waveform",
    "probe",
    "read_audio",
    "read_video",
]

WHOLE = Excerpt()


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """Which tracks a file has that can be read. A cover picture is no video."""

    has_audio: bool
    has_video: bool


def probe(source: Source, limits: Limits) -> MediaInfo:
    """Look at the headers of `source`; decodes nothing for you.

    Raises:
        InputError: `empty_input`, `media_too_large`, `media_corrupt`, `missing_track` where there is neither
            sound nor picture, or `unsupported_media`.
        OSError: the path cannot be read.
    """
    file = MediaFile(source, limits)
    try:
        tracks = [track for track in (file.audio, file.video) if track is not None]
        if not tracks:
            raise InputError("missing_track", "the media has neither sound nor a moving picture")
        kinds = {track.type for track in tracks if readable(track)}
    finally:
        file.close()
    if not kinds:
        raise InputError("unsupported_media", "the codecs of the media are not among those we read")
    return MediaInfo(has_audio="audio" in kinds, has_video="video" in kinds)


def read_audio(
    source: Source,
    spec: AudioSpec,
    grid: TimeGrid,
    limits: Limits,
    *,
    excerpt: Excerpt = WHOLE,
    truncate: Truncate = "none",
) -> AudioReader:
    """The sound of `source`, mono float32 at `spec.sample_rate`, one `Waveform` per window.

    Reads headers now and decodes as it is iterated, so errors may come from either.

    Raises:
        InputError: `empty_input`, `invalid_value`, `media_corrupt`, `media_too_large`, `media_too_long`,
            `missing_track` or `unsupported_media`.
        OSError: the path cannot be read.
    """
    return AudioReader(source, spec, grid, limits, excerpt, truncate)


def read_video(
    source: Source,
    spec: VideoSpec,
    grid: TimeGrid,
    limits: Limits,
    *,
    excerpt: Excerpt = WHOLE,
    truncate: Truncate = "none",
) -> VideoReader:
    """The pictures of `source`, uint8 RGB at the size of `spec`, one `Frames` per window.

    Reads headers now and decodes as it is iterated, so errors may come from either.

    Raises:
        InputError: as for `read_audio`.
        OSError: the path cannot be read.
    """
    return VideoReader(source, spec, grid, limits, excerpt, truncate)
