"""Sound of every form that is read comes out as it went in: pitch, level, place in time."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tessera.errors import InputError
from tessera.media import probe
from tests.media_files import SOUND, chirp, shades, sine, sound_file, video_file
from tests.reading import LIMITS, RATE, listen

_RATES = (8_000, 44_100, 48_000, 96_000)


def similarity(heard: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    """Cosine of two signals without their edges, where codecs fade in and out."""
    edge, end = RATE // 10, min(len(heard), len(wanted)) - RATE // 10
    a, b = heard[edge:end].astype(np.float64), wanted[edge:end].astype(np.float64)
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def level(samples: NDArray[np.float32]) -> float:
    """Amplitude of a sine, from its middle."""
    middle = samples[RATE // 2 : -RATE // 2].astype(np.float64)
    return float(np.sqrt(2 * np.mean(middle**2)))


@pytest.mark.parametrize("rate", _RATES)
@pytest.mark.parametrize(
    ("form", "channels"),
    [(form, n) for form in SOUND for n in (1, 2, 6) if n < 6 or form not in ("mp3", "vorbis")],
)
def test_a_tone_keeps_its_pitch_level_and_place(form: str, channels: int, rate: int) -> None:
    heard = listen(sound_file(form, np.tile(sine(2, rate), (channels, 1)), rate))
    assert heard.segments == 2
    assert heard.duration_sec == pytest.approx(2, abs=0.1)
    spectrum = np.abs(np.fft.rfft(heard.samples[:RATE]))
    assert int(spectrum.argmax()) == 1000
    assert level(heard.samples) == pytest.approx(0.5, rel=0.06)
    assert similarity(heard.samples, sine(2, RATE)[0]) > 0.97


@pytest.mark.parametrize("form", SOUND)
def test_each_second_is_where_it_was(form: str) -> None:
    heard = listen(sound_file(form, chirp(12.5, 48_000), 48_000))
    assert heard.windows == [10, 3]
    wanted = chirp(12.5, RATE)[0]
    for second in range(12):
        part = slice(second * RATE, (second + 1) * RATE)
        assert similarity(heard.samples[part], wanted[part]) > 0.97
    assert not heard.samples[-RATE // 4 :].any()


@pytest.mark.parametrize("form", ["wav", "wav-u8", "wav-s24", "wav-f32", "flac", "alac"])
def test_lossless_forms_lose_nothing(form: str) -> None:
    wanted = sine(2, RATE)[0]
    step = 1 / 128 if form == "wav-u8" else 1e-4
    assert np.abs(listen(sound_file(form, wanted[None], RATE)).samples - wanted).max() < step


def test_channels_are_averaged() -> None:
    one_side = np.concatenate([sine(2, RATE), np.zeros((1, 2 * RATE), np.float32)])
    assert level(listen(sound_file("wav", one_side, RATE)).samples) == pytest.approx(0.25, rel=0.01)


@pytest.mark.parametrize("channels", [3, 5, 7, 8, 16])
def test_any_number_of_channels_without_a_layout(channels: int) -> None:
    tone = np.tile(sine(2, RATE)[0, :, None], (1, channels))
    assert level(listen(wav(tone)).samples) == pytest.approx(0.5, rel=0.02)


def test_silence_is_silence() -> None:
    heard = listen(sound_file("wav", np.zeros((1, 3 * RATE), np.float32), RATE))
    assert heard.segments == 3
    assert not heard.samples.any()


def test_what_is_not_finite_becomes_finite() -> None:
    samples = sine(2, RATE)[0]
    samples[100:200], samples[300], samples[400], samples[500] = np.nan, np.inf, -np.inf, 1e30
    heard = listen(wav(samples[:, None], kind=3)).samples
    assert np.abs(heard).max() <= 1
    assert not heard[100:200].any()
    assert heard[300] == 1
    assert heard[400] == -1
    resampled = listen(wav(samples[:, None], kind=3, rate=44_100)).samples
    assert np.isfinite(resampled).all()


@pytest.mark.parametrize(
    ("seconds", "segments"), [(0.001, 1), (0.2, 1), (0.999, 1), (1.2, 1), (1.25, 2), (2, 2), (10.2, 10)]
)
def test_a_short_remainder_is_dropped_and_a_long_one_padded(seconds: float, segments: int) -> None:
    signal = sine(seconds, RATE)[0]
    heard = listen(sound_file("wav", signal[None], RATE))
    assert heard.segments == segments
    assert heard.duration_sec == pytest.approx(seconds)
    kept = min(len(signal), segments * RATE)
    assert np.abs(heard.samples[:kept] - signal[:kept]).max() < 1e-4
    assert not heard.samples[kept:].any()


@pytest.mark.parametrize("form", ["mp4", "mov", "mkv", "vp9"])
def test_the_sound_track_of_a_video(form: str) -> None:
    video = video_file(form, shades([100] * 20), sound=(chirp(3, 48_000), 48_000))
    heard = listen(video)
    assert heard.segments == 3
    assert similarity(heard.samples, chirp(3, RATE)[0]) > 0.97


@pytest.mark.parametrize("form", ["mp4", "mkv", "vp9"])
def test_sound_that_starts_after_the_picture_keeps_its_place(form: str) -> None:
    late = video_file(form, shades([100] * 40), sound=(chirp(2, 48_000), 48_000), sound_start=1.5)
    heard = listen(late)
    assert heard.segments == 4
    wanted, start = chirp(2, RATE)[0, :30_000], round(1.5 * RATE)
    likeness = [float(heard.samples[start + lag :][:30_000] @ wanted) for lag in range(-400, 400)]
    # Matroska counts in milliseconds, of 16 samples.
    assert abs(int(np.argmax(likeness)) - 400) <= 16
    assert np.abs(heard.samples[: start - 400]).max() < 0.01


def test_sound_whose_form_changes_on_the_way() -> None:
    """Files of frames may be joined end to end; the second part here has other channels and another rate."""
    first = sound_file("mp3", sine(2, 48_000), 48_000)
    second = sound_file("mp3", np.tile(sine(2, 32_000), (2, 1)), 32_000)
    heard = listen(first + second)
    assert heard.duration_sec == pytest.approx(4, abs=0.2)
    assert level(heard.samples[: 2 * RATE]) == pytest.approx(0.5, rel=0.06)
    assert level(heard.samples[2 * RATE :]) == pytest.approx(0.5, rel=0.06)


def test_path_and_bytes_give_equal_bits(tmp_path: Path) -> None:
    for form in SOUND:
        data = sound_file(form, chirp(11, 44_100), 44_100)
        path = tmp_path / form
        path.write_bytes(data)
        assert np.array_equal(listen(path).samples, listen(data).samples)


def test_a_file_name_is_never_read_as_anything_else(tmp_path: Path) -> None:
    path = tmp_path / "concat:file,http:%03d?x=1.wav"
    path.write_bytes(sound_file("wav", sine(1, RATE), RATE))
    assert listen(path).segments == 1


def test_a_missing_sound_track_is_named() -> None:
    silent = video_file("mp4", shades([100] * 10))
    with pytest.raises(InputError, match="no audio track") as raised:
        listen(silent)
    assert raised.value.code == "missing_track"
    assert not probe(silent, LIMITS).has_audio


def wav(samples: NDArray[np.float32], *, kind: int = 1, rate: int = RATE, claim: int | None = None) -> bytes:
    """A wav of `samples` [n, channels] without a channel layout; `kind` 1 is 16 bit, 3 is float."""
    body = samples.astype("<f4").tobytes() if kind == 3 else (samples * 32767).astype("<i2").tobytes()
    width, channels = (4 if kind == 3 else 2), samples.shape[1]
    form = struct.pack("<HHIIHH", kind, channels, rate, rate * channels * width, channels * width, 8 * width)
    size = len(body) if claim is None else claim
    data = b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", size) + body
    return b"RIFF" + struct.pack("<I", min(len(data), 2**32 - 1)) + data
