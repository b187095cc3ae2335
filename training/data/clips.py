"""Clips of a world as real files: WAV, MP4 and WebM through PyAV, and folders of them with a manifest."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TypedDict

import av
import numpy as np
import orjson
from av.audio.stream import AudioStream
from av.codec.codec import Codec, UnknownCodecError
from av.container import OutputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from tessera.errors import TrainingError
from training.data.events import Floats
from training.data.world import Clip, Split, World

MANIFEST = "manifest.jsonl"
ENCODER_RATES = frozenset({8000, 12000, 16000, 24000, 48000})
"""Sample rates that both AAC and Opus take; sound of any other rate is resampled to the highest."""
SPEED = {
    "libx264": {"preset": "veryfast"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
}


class ManifestRow(TypedDict):
    """One line of a manifest; media paths are relative to the manifest's folder."""

    id: str
    audio: str
    video: str
    caption: str
    event: str
    occurrences: list[dict[str, str | float]]


def write_wav(path: Path, clip: Clip) -> None:
    """Write the sound of a clip as 16-bit mono PCM at the clip's own rate."""
    with av.open(path, "w", format="wav") as container:
        stream = container.add_stream("pcm_s16le", rate=clip.sample_rate, layout="mono")
        _encode_sound(container, stream, clip.waveform(), clip.sample_rate, 0)
        container.mux(stream.encode(None))


def write_mp4(
    path: Path,
    clip: Clip,
    fps: int = 25,
    height: int = 240,
    width: int = 320,
    with_sound: bool = True,
    codec: str | None = None,
) -> None:
    """Write the picture of a clip, and its sound track unless told otherwise.

    The suffix decides the container: `.webm` holds VP9 and Opus, anything else (`.mp4`, `.mov`, `.mkv`)
    H.264 and AAC. `codec` names another video encoder of FFmpeg. One second is in memory at a time.

    Raises:
        TrainingError: odd frame sides, which no 4:2:0 codec can hold, or an unknown encoder.
    """
    webm = path.suffix == ".webm"
    codec = codec or ("libvpx-vp9" if webm else "libx264")
    _check_encodable(codec, height, width)
    sound = clip.waveform() if with_sound else None
    with av.open(path, "w") as container:
        video = _video_stream(container, codec, fps, height, width)
        audio = (
            _sound_stream(container, "libopus" if webm else "aac", clip.sample_rate) if with_sound else None
        )
        for second, frames in enumerate(clip.seconds_of_frames(fps, height, width)):
            _encode_picture(container, video, frames, second * fps)
            if audio is not None and sound is not None:
                start = second * clip.sample_rate
                _encode_sound(
                    container, audio, sound[start : start + clip.sample_rate], clip.sample_rate, start
                )
        container.mux(video.encode(None))
        if audio is not None:
            container.mux(audio.encode(None))


def write_clips(
    out: Path,
    world: World,
    split: Split,
    clips: int,
    fps: int = 25,
    height: int = 240,
    width: int = 320,
) -> Path:
    """Write the first clips of a split under `out`, with a progress bar; return the path of the manifest.

    The files are `audio/<id>.wav`, `video/<id>.mp4` with sound, and `manifest.jsonl` of `ManifestRow`s.

    Raises:
        TrainingError: no clips asked for, or `out` already holds a manifest.
    """
    manifest = out / MANIFEST
    if clips < 1:
        raise TrainingError(f"cannot write {clips} clips: ask for at least one")
    if manifest.exists():
        raise TrainingError(f"{out} already holds clips: choose an empty folder")
    for folder in ("audio", "video"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    numbers = track(range(clips), f"{split} clips", console=Console(stderr=True), transient=True)
    with manifest.open("wb") as lines:
        for clip in (world.clip(split, index) for index in numbers):
            row = _row(clip)
            write_wav(out / row["audio"], clip)
            write_mp4(out / row["video"], clip, fps, height, width)
            lines.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
    return manifest


def read_manifest(path: Path) -> Iterator[ManifestRow]:
    """The rows of a manifest, in order."""
    with path.open("rb") as lines:
        for line in lines:
            yield orjson.loads(line)


def _check_encodable(codec: str, height: int, width: int) -> None:
    if height % 2 or width % 2:
        raise TrainingError(f"a video of {height} x {width} pixels cannot be encoded: sides must be even")
    try:
        Codec(codec, "w")
    except UnknownCodecError:
        raise TrainingError(f"there is no video encoder called {codec!r}") from None


def _row(clip: Clip) -> ManifestRow:
    return ManifestRow(
        id=clip.id,
        audio=f"audio/{clip.id}.wav",
        video=f"video/{clip.id}.mp4",
        caption=clip.caption,
        event=clip.event,
        occurrences=[dataclasses.asdict(occurrence) for occurrence in clip.occurrences],
    )


def _video_stream(container: OutputContainer, codec: str, fps: int, height: int, width: int) -> VideoStream:
    stream = container.add_stream(codec, rate=fps, options=SPEED.get(codec, {}))
    assert isinstance(stream, VideoStream)
    stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
    return stream


def _sound_stream(container: OutputContainer, codec: str, rate: int) -> AudioStream:
    fitting = rate if rate in ENCODER_RATES else max(ENCODER_RATES)
    stream = container.add_stream(codec, rate=fitting, layout="mono")
    assert isinstance(stream, AudioStream)
    return stream


def _encode_picture(
    container: OutputContainer, stream: VideoStream, frames: NDArray[np.uint8], first: int
) -> None:
    for number, pixels in enumerate(frames, first):
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        frame.pts, frame.time_base = number, Fraction(1) / Fraction(stream.codec_context.framerate)
        container.mux(stream.encode(frame))


def _encode_sound(
    container: OutputContainer, stream: AudioStream, samples: Floats, rate: int, first: int
) -> None:
    frame = av.AudioFrame.from_ndarray(
        np.rint(samples[None] * 32767).astype(np.int16), format="s16", layout="mono"
    )
    frame.sample_rate, frame.pts, frame.time_base = rate, first, Fraction(1, rate)
    container.mux(stream.encode(frame))
