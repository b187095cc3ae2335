"""Pictures: any codec, frame rate and rotation -> windows of evenly spaced RGB frames of one size."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.audio.stream import AudioStream
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from tessera.bundle import TimeGrid, VideoSpec
from tessera.containers import FAULTS, Source
from tessera.errors import InputError
from tessera.limits import Limits, Truncate
from tessera.readers import Excerpt, MediaReader, exact

Picture = NDArray[np.uint8]

# Area averaging, because frames are mostly made smaller; the flags make every processor give the same pixels.
_SCALING = Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.BITEXACT

# Searching pays from here on; nearer, decoding from the start is as quick.
_NEAR = Fraction(3)
_USUAL_DURATION = Fraction(1, 25)


@dataclass(frozen=True, slots=True)
class Frames:
    """A window of pictures: `frames` u8 [segments, k, height, width, 3] RGB, from `start_segment` on."""

    frames: Picture
    segments: int
    start_segment: int


class VideoReader(MediaReader[Frames]):
    """The moving picture of a clip, one `Frames` per window.

    Segment `s` shows the times `(s + (j + 0.5) / k) * hop_sec`; the frame shown at a time is the last that
    starts no later, or the first of all. Frames are turned upright and stretched to the size of the bundle,
    whatever the shape of their pixels.
    """

    kind = "video"

    def __init__(
        self,
        source: Source,
        spec: VideoSpec,
        grid: TimeGrid,
        limits: Limits,
        excerpt: Excerpt,
        truncate: Truncate,
    ) -> None:
        self._spec = spec
        self._hop = exact(grid.hop_sec)
        self._scaler = VideoReformatter()
        super().__init__(source, grid, limits, excerpt, truncate)

    def _check_stream(self, stream: AudioStream | VideoStream) -> None:
        super()._check_stream(stream)
        self._check_size(*self._file.picture_size())

    def _check_size(self, width: int, height: int) -> None:
        if width * height > self._limits.max_video_pixels:
            raise self._limits.exceeded(
                "max_video_pixels", "media_too_large", width * height, "pixels a frame"
            )

    def _windows(self) -> Generator[Frames, None, None]:
        k, full = self._spec.frames_per_segment, self._spec.frames_per_segment * self._grid.window_segments
        pictures: list[Picture] = []
        frame, done = None, 0
        for frame, until in self._shown():
            picture = None
            while self._time(done * k + len(pictures)) < until:
                if len(pictures) == full:
                    yield self._window(pictures, done)
                    pictures, done = [], done + self._grid.window_segments
                picture = self._picture(frame) if picture is None else picture
                pictures.append(picture)
        wanted = (self._finish() - done) * k
        if frame is not None and wanted > len(pictures):
            pictures += [self._picture(frame)] * (wanted - len(pictures))
        for at in range(0, wanted, full):
            yield self._window(pictures[at : min(at + full, wanted)], done + at // k)

    def _window(self, pictures: list[Picture], start: int) -> Frames:
        k = self._spec.frames_per_segment
        frames = np.stack(pictures).reshape(-1, k, *pictures[0].shape)
        return Frames(frames, len(frames), start)

    def _time(self, number: int) -> Fraction:
        """When picture `number` of the excerpt is taken."""
        return self._start + Fraction(2 * number + 1, 2 * self._spec.frames_per_segment) * self._hop

    def _shown(self) -> Iterator[tuple[av.VideoFrame, Fraction]]:
        """Each frame with the time until which it is shown."""
        shown: av.VideoFrame | None = None
        time = Fraction(0)
        for frame, time in self._searched():
            if shown is not None:
                enough = self._advance(time)
                yield shown, min(time, self._stop)
                if enough:
                    return
            shown = frame
        if shown is not None:
            end = time + self._duration(shown)
            self._advance(end)
            yield shown, min(end, self._stop)

    def _searched(self) -> Iterator[tuple[av.VideoFrame, Fraction]]:
        """The frames from the one that is shown at `_start` on, or from an earlier one."""
        if self._start > _NEAR:
            timed = self._timed()
            first = self._found(timed)
            if first is not None and first[1] <= self._start:
                yield first
                yield from timed
                return
            timed.close()
            self._file.rewind()
        yield from self._timed()

    def _found(
        self, timed: Generator[tuple[av.VideoFrame, Fraction], None, None]
    ) -> tuple[av.VideoFrame, Fraction] | None:
        """The first frame after a search for `_start`; None where searching does not work."""
        # Containers search by decoding time, which is a few frames before the time shown.
        if not self._file.seek(self._stream, self._origin + self._start - 1):
            return None
        try:
            return next(timed, None)
        except InputError:
            return None

    def _timed(self) -> Generator[tuple[av.VideoFrame, Fraction], None, None]:
        """Frames with the times at which they appear, never running backwards."""
        last, after = None, Fraction(0)
        for count, frame in enumerate(self._file.frames(self._stream), 1):
            assert isinstance(frame, av.VideoFrame)
            self._check_frame(frame, count)
            time = after
            if frame.pts is not None and frame.time_base is not None:
                time = frame.pts * frame.time_base - self._origin
            last = time if last is None else max(last, time)
            after = last + self._duration(frame)
            yield frame, last

    def _duration(self, frame: av.VideoFrame) -> Fraction:
        if frame.duration > 0 and frame.time_base is not None:
            return frame.duration * frame.time_base
        rate = self._stream.average_rate
        return 1 / rate if rate else _USUAL_DURATION

    def _check_frame(self, frame: av.VideoFrame, count: int) -> None:
        self._check_size(frame.width, frame.height)
        if count > self._limits.max_video_frames:
            raise self._limits.exceeded("max_video_frames", "media_too_large", count, "frames")

    def _picture(self, frame: av.VideoFrame) -> Picture:
        """`frame` upright, in RGB, at the size of the bundle."""
        quarters = round(frame.rotation / 90) % 4
        width, height = self._spec.width, self._spec.height
        if quarters % 2:
            width, height = height, width
        try:
            picture = scale(self._scaler, frame, width, height)
        except FAULTS:
            raise InputError(
                "unsupported_media", "the pixel format of the video is not one we read"
            ) from None
        return np.rot90(picture, quarters)


def scale(scaler: VideoReformatter, frame: av.VideoFrame, width: int, height: int) -> Picture:
    """`frame` in RGB, stretched to `width` x `height`: what every picture goes through, in training too."""
    scaled = scaler.reformat(frame, width, height, "rgb24", interpolation=_SCALING, threads=1)
    return np.asarray(scaled.to_ndarray(), np.uint8)
