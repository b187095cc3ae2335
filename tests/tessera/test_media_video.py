"""Moving pictures of every form that is read: the right frame at the right time, upright, in its colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tessera.bundle import VideoSpec
from tessera.errors import InputError
from tessera.media import Excerpt, probe
from tests.media_files import PICTURE, shades, sine, sound_file, video_file
from tests.reading import LIMITS, VIDEO, watch

_FPS = 10


def shade_at(number: int) -> int:
    """The brightness that stands for picture `number`; neighbours differ by more than a codec's error."""
    return 20 + 8 * (number % 25)


def clock(pictures: int) -> NDArray[np.uint8]:
    return shades([shade_at(number) for number in range(pictures)])


def shown(times: NDArray[np.float64], starts: list[float]) -> NDArray[np.float64]:
    """The brightness at `times` of pictures that appear at `starts`: the last begun, else the first."""
    numbers = np.maximum(np.searchsorted(starts, times + 1e-9, side="right") - 1, 0)
    return np.array([shade_at(int(number)) for number in numbers], np.float64)


def instants(segments: int, per_segment: int = 2) -> NDArray[np.float64]:
    return (np.arange(segments * per_segment) + 0.5) / per_segment


@pytest.mark.parametrize("form", PICTURE)
def test_each_moment_shows_its_frame(form: str) -> None:
    seen = watch(video_file(form, clock(125), _FPS))
    assert seen.windows == [10, 3]
    assert seen.duration_sec == pytest.approx(12.5, abs=0.01)
    wanted = shown(instants(13), [number / _FPS for number in range(125)])
    assert np.abs(seen.shades - wanted).max() < 4


@pytest.mark.parametrize("form", PICTURE)
def test_variable_frame_rates(form: str) -> None:
    starts = [0.0, 0.04, 0.08, 0.2, 0.24, 0.26, 1.7, 1.72, 1.76, 2.6, 2.74, 2.8, 3.9]
    seen = watch(video_file(form, clock(len(starts)), 25, times=starts))
    assert np.abs(seen.shades - shown(instants(seen.segments), starts)).max() < 4
    assert seen.segments in (4, 5)  # containers differ in how long they show the last frame


@pytest.mark.parametrize("per_segment", [1, 3, 4, 10, 25])
def test_frames_per_segment(per_segment: int) -> None:
    spec = VIDEO.model_copy(update={"frames_per_segment": per_segment})
    seen = watch(video_file("mp4", clock(24), _FPS), spec)
    assert seen.segments == 3
    wanted = shown(instants(3, per_segment), [number / _FPS for number in range(24)])
    assert np.abs(seen.shades - wanted).max() < 4


@pytest.mark.parametrize("rotation", [None, 90, 180, -90])
@pytest.mark.parametrize("form", ["mp4", "mov", "mkv", "vp9"])
def test_a_turned_camera_gives_upright_frames(form: str, rotation: int | None) -> None:
    picture = np.full((48, 32, 3), 40, np.uint8)
    picture[:16, :16] = (220, 30, 30)  # the red corner, top left when upright
    stored = np.rot90(picture, -(rotation or 0) // 90)
    upright = VideoSpec(backbone="test", frames_per_segment=1, height=48, width=32, grid=1, feature_dim=1)
    seen = watch(video_file(form, np.stack([stored] * 10), _FPS, rotation=rotation), upright)
    frame = seen.samples[0, 0].astype(int)
    assert np.abs(frame[2:14, 2:14] - (220, 30, 30)).max() < 40
    assert np.abs(frame[20:46, 2:30] - 40).max() < 20
    assert np.abs(frame[2:14, 20:30] - 40).max() < 20


def test_colours_survive() -> None:
    colours = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30)]
    pictures = np.concatenate([np.full((10, 32, 48, 3), colour, np.uint8) for colour in colours])
    seen = watch(video_file("mp4", pictures, _FPS))
    for segment, colour in enumerate(colours):
        assert np.abs(seen.samples[segment].mean(axis=(0, 1, 2)) - colour).max() < 6


def test_scaling_averages() -> None:
    """Stripes of one pixel become the grey between them, not one of the two."""
    stripes = np.zeros((10, 64, 96, 3), np.uint8)
    stripes[:, ::2] = 200
    seen = watch(video_file("mp4", stripes, _FPS))
    assert np.abs(seen.samples.astype(int) - 100).max() < 12


@pytest.mark.parametrize(("pictures", "segments"), [(1, 1), (9, 1), (12, 1), (13, 2), (20, 2), (102, 10)])
def test_a_short_remainder_is_dropped_and_a_long_one_held(pictures: int, segments: int) -> None:
    seen = watch(video_file("mp4", clock(pictures), _FPS))
    assert seen.segments == segments
    wanted = shown(instants(segments), [number / _FPS for number in range(pictures)])
    assert np.abs(seen.shades - wanted).max() < 4


@pytest.mark.parametrize("form", PICTURE)
@pytest.mark.parametrize("start", [0.0, 0.35, 4.2, 17.0, 23.9])
def test_an_excerpt_shows_what_the_whole_shows(form: str, start: float) -> None:
    """Whether the container was searched or decoded from its start."""
    video = video_file(form, clock(250), _FPS)
    seen = watch(video, excerpt=Excerpt(start, start + 5))
    wanted = shown(instants(seen.segments) + start, [number / _FPS for number in range(250)])
    assert seen.segments == min(5, round(25 - start + 0.25))
    assert np.abs(seen.shades - wanted).max() < 4
    assert seen.start_sec == start


def test_a_picture_that_starts_after_the_sound_keeps_its_place() -> None:
    starts = [1.5 + number / _FPS for number in range(20)]
    video = video_file("mkv", clock(20), _FPS, times=starts, sound=(sine(4, 48_000), 48_000))
    seen = watch(video)
    assert seen.segments == 4
    assert np.abs(seen.shades[:7] - shown(instants(4), starts)[:7]).max() < 4


def test_path_and_bytes_give_equal_pixels(tmp_path: Path) -> None:
    for form in PICTURE:
        data = video_file(form, clock(30), _FPS)
        path = tmp_path / form
        path.write_bytes(data)
        for excerpt in (Excerpt(), Excerpt(1.2)):
            left, right = watch(path, excerpt=excerpt), watch(data, excerpt=excerpt)
            assert np.array_equal(left.samples, right.samples)


def test_mp4_for_streaming() -> None:
    seen = watch(video_file("mp4", clock(30), _FPS, muxing={"movflags": "frag_keyframe+empty_moov"}))
    wanted = shown(instants(3), [number / _FPS for number in range(30)])
    assert np.abs(seen.shades - wanted).max() < 4


def test_a_webm_of_a_browser_has_no_duration() -> None:
    """Recorders write a live file: nothing in its header says how long it is."""
    video = video_file("vp9", clock(30), _FPS, sound=(sine(3, 48_000), 48_000), muxing={"live": "1"})
    assert watch(video).segments == 3


def test_sound_alone_has_no_picture() -> None:
    with pytest.raises(InputError, match="no video track") as raised:
        watch(sound_file("m4a", sine(1, 48_000), 48_000))
    assert raised.value.code == "missing_track"


def test_probe_tells_tracks() -> None:
    both = probe(video_file("mp4", clock(5), _FPS, sound=(sine(1, 48_000), 48_000)), LIMITS)
    assert (both.has_audio, both.has_video) == (True, True)
    picture = probe(video_file("vp8", clock(5), _FPS), LIMITS)
    assert (picture.has_audio, picture.has_video) == (False, True)
    sound = probe(sound_file("mp3", sine(1, 48_000), 48_000), LIMITS)
    assert (sound.has_audio, sound.has_video) == (True, False)
