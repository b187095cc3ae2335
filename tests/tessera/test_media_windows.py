"""Windows, excerpts and lengths: a long clip in windows is the same clip, and no longer than its limit."""

from __future__ import annotations

import gc
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tessera.bundle import TimeGrid
from tessera.errors import InputError
from tessera.limits import Limits
from tessera.media import Excerpt, read_audio, read_video
from tests.media_files import chirp, shades, sine, sound_file, video_file
from tests.reading import AUDIO, GRID, LIMITS, RATE, VIDEO, listen, watch

_SECONDS = 23.4
_SHORT = Limits(max_media_seconds=10)
_WHOLE = TimeGrid(window_segments=1000)


@cache
def sound(form: str = "opus") -> bytes:
    return sound_file(form, chirp(_SECONDS, 44_100), 44_100)


@cache
def video() -> bytes:
    return video_file("mp4", shades([(number * 7) % 250 for number in range(234)]), 10)


starts = st.integers(0, 22_000).map(lambda ms: ms / 1000)
lengths = st.one_of(st.none(), st.integers(1, 24_000).map(lambda ms: ms / 1000))


@given(st.sampled_from(["wav", "mp3", "opus", "flac", "m4a"]), starts, lengths, st.integers(1, 12))
@example("wav", 1.0, 0.001, 1)
@settings(deadline=None, max_examples=40)
def test_windows_of_sound_are_cut_from_one_signal(
    form: str, start: float, length: float | None, window: int
) -> None:
    excerpt = Excerpt(start, None if length is None else start + length)
    grid = TimeGrid(window_segments=window)
    with read_audio(sound(form), AUDIO, grid, LIMITS, excerpt=excerpt) as reader:
        windows = list(reader)
    assert [part.start_segment for part in windows] == [i * window for i in range(len(windows))]
    assert all(part.segments == window for part in windows[:-1])
    cut = np.concatenate([part.samples for part in windows])
    whole = np.concatenate([part.samples for part in read_audio(sound(form), AUDIO, _WHOLE, LIMITS)])
    begin = round(start * RATE)
    kept = min(len(cut), round(reader.duration_sec * RATE), len(whole) - begin)
    assert np.array_equal(cut[:kept], whole[begin : begin + kept])
    assert len(cut) == RATE * grid.segments(reader.duration_sec)


@given(starts, lengths, st.integers(1, 12), st.integers(1, 5))
@example(1.0, 0.001, 1, 1)
@settings(deadline=None, max_examples=40)
def test_windows_of_pictures_are_cut_from_one_clip(
    start: float, length: float | None, window: int, per_segment: int
) -> None:
    spec = VIDEO.model_copy(update={"frames_per_segment": per_segment})
    excerpt = Excerpt(start, None if length is None else start + length)
    grid = TimeGrid(window_segments=window)
    with read_video(video(), spec, grid, LIMITS, excerpt=excerpt) as reader:
        windows = list(reader)
    assert [part.start_segment for part in windows] == [i * window for i in range(len(windows))]
    assert all(part.segments == window for part in windows[:-1])
    cut = np.concatenate([part.frames for part in windows])
    assert len(cut) == grid.segments(reader.duration_sec)
    dense = VIDEO.model_copy(update={"frames_per_segment": 1})
    for segment, pictures in enumerate(cut[: int(reader.duration_sec)]):
        middle = start + segment + 0.5
        (one,) = read_video(video(), dense, grid, LIMITS, excerpt=Excerpt(middle - 0.5, middle + 0.5))
        if per_segment % 2:
            assert np.array_equal(pictures[per_segment // 2], one.frames[0, 0])


@given(
    st.sampled_from(["none", "start", "end"]),
    st.integers(100, 30_000).map(lambda ms: ms / 1000),
    st.integers(1_000, 12_000).map(lambda ms: ms / 1000),
)
@settings(deadline=None, max_examples=60)
def test_no_more_than_the_limit(
    truncate: Literal["none", "start", "end"], seconds: float, limit: float
) -> None:
    signal = chirp(seconds, RATE)[0]
    data, limits = sound_file("wav", signal[None], RATE), Limits(max_media_seconds=limit)
    too_long = len(signal) / RATE - limit >= GRID.min_tail_sec
    if too_long and truncate == "none":
        with pytest.raises(InputError, match="the limit is") as raised:
            listen(data, limits=limits, truncate=truncate)
        assert raised.value.code == "media_too_long"
        assert raised.value.actual == pytest.approx(seconds, abs=0.01)
        return
    heard = listen(data, limits=limits, truncate=truncate)
    assert heard.truncated == too_long
    assert heard.duration_sec <= limit
    assert heard.segments == GRID.segments(heard.duration_sec)
    begin = len(signal) - round(limit * RATE) if too_long and truncate == "start" else 0
    kept = min(len(heard.samples), round(heard.duration_sec * RATE))
    assert np.abs(heard.samples[:kept] - signal[begin : begin + kept]).max() < 1e-3
    assert heard.start_sec == pytest.approx(begin / RATE, abs=1e-3)


@pytest.mark.parametrize("form", ["wav", "mp3", "opus", "flac", "m4a", "mka"])
def test_sound_that_is_too_long(form: str) -> None:
    with pytest.raises(InputError, match=r"23\.\d+ seconds of audio, the limit is 10") as raised:
        read_audio(sound(form), AUDIO, GRID, _SHORT)
    error = raised.value
    assert (error.code, error.limit, error.setting) == ("media_too_long", 10, "TESSERA_MAX_MEDIA_SECONDS")
    whole = listen(sound(form)).samples
    head = listen(sound(form), limits=_SHORT, truncate="end")
    assert (head.segments, head.truncated, head.duration_sec, head.start_sec) == (10, True, 10, 0)
    assert np.array_equal(head.samples, whole[: 10 * RATE])
    tail = listen(sound(form), limits=_SHORT, truncate="start")
    assert (tail.segments, tail.truncated) == (10, True)
    assert tail.start_sec == pytest.approx(13.4, abs=0.1)
    begin = round(tail.start_sec * RATE)
    kept = round(tail.duration_sec * RATE)
    assert np.array_equal(tail.samples[:kept], whole[begin : begin + kept])


def test_a_picture_that_is_too_long() -> None:
    with pytest.raises(InputError, match=r"23\.4 seconds of video, the limit is 10"):
        read_video(video(), VIDEO, GRID, _SHORT)
    whole = watch(video())
    head = watch(video(), limits=_SHORT, truncate="end")
    assert (head.segments, head.truncated, head.duration_sec) == (10, True, 10)
    assert np.array_equal(head.samples, whole.samples[:10])
    tail = watch(video(), limits=_SHORT, truncate="start")
    assert (tail.segments, tail.truncated) == (10, True)
    assert tail.start_sec == pytest.approx(13.4)
    last = watch(video(), excerpt=Excerpt(13.4))
    assert np.array_equal(tail.samples, last.samples)


def test_an_excerpt_counts_not_the_whole() -> None:
    heard = listen(sound(), limits=_SHORT, excerpt=Excerpt(5, 14))
    assert (heard.segments, heard.truncated, heard.duration_sec) == (9, False, 9)
    seen = watch(video(), limits=_SHORT, excerpt=Excerpt(15, 60))
    assert (seen.segments, seen.truncated) == (9, False)
    cut = listen(sound(), limits=_SHORT, excerpt=Excerpt(2, 20), truncate="start")
    assert (cut.start_sec, cut.truncated) == (10, True)


@pytest.mark.parametrize(
    ("start", "end"),
    [(-1, None), (float("nan"), None), (float("inf"), None), (2, 2), (3, 1), (0, float("nan"))],
)
def test_an_excerpt_that_cannot_be(start: float, end: float | None) -> None:
    with pytest.raises(InputError) as raised:
        Excerpt(start, end)
    assert raised.value.code == "invalid_value"


@pytest.mark.parametrize("start", [23.6, 100, 1e12])
def test_an_excerpt_after_the_end(start: float) -> None:
    with pytest.raises(InputError, match="ends at 23") as heard:
        listen(sound(), excerpt=Excerpt(start))
    with pytest.raises(InputError, match="ends at 23") as seen:
        watch(video(), excerpt=Excerpt(start))
    assert heard.value.code == seen.value.code == "invalid_value"


def test_a_reader_is_read_once_and_frees_its_file(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    path.write_bytes(sound("wav"))
    reader = read_audio(path, AUDIO, GRID, LIMITS)
    assert len(list(reader)) == 3
    assert list(reader) == []
    half = read_audio(path, AUDIO, GRID, LIMITS)
    next(half)
    half.close()
    half.close()
    assert list(half) == []
    with pytest.raises(InputError), read_video(path, VIDEO, GRID, LIMITS):
        pass
    gc.collect()  # a file left open would warn here, and warnings are errors


def test_progress_is_told_in_seconds() -> None:
    with read_audio(sound("wav"), AUDIO, GRID, LIMITS) as reader:
        next(reader)
        assert 10 <= reader.duration_sec < 12
        list(reader)
        assert reader.duration_sec == pytest.approx(_SECONDS)


# Not `ru_maxrss`: that of a fresh process starts at what its parent used.
_PEAK = """
import sys
from tests.reading import AUDIO, GRID, LIMITS
from tessera.media import read_audio
from pathlib import Path
seconds = 0
for window in read_audio(Path(sys.argv[1]), AUDIO, GRID, LIMITS):
    seconds += window.segments
status = Path("/proc/self/status").read_text()
print(seconds, int(status.split("VmHWM:")[1].split()[0]) // 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from /proc")
def test_a_long_mp3_needs_no_more_memory_than_a_short_one(tmp_path: Path) -> None:
    peaks = []
    for minutes in (1, 20):
        path = tmp_path / "long.mp3"
        path.write_bytes(sound_file("mp3", sine(minutes * 60, RATE), RATE))
        ran = subprocess.run(
            [sys.executable, "-c", _PEAK, str(path)],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        )
        seconds, peak = map(int, ran.stdout.split())
        assert seconds == minutes * 60
        peaks.append(peak)
    # As samples the 20 minutes are 77 MB.
    assert peaks[1] - peaks[0] < 30
