"""Media that breaks off or was damaged: the part that is there, or a clear error, never anything more."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tessera.errors import InputError
from tessera.limits import Limits
from tessera.media import Excerpt, probe
from tests.media_files import PICTURE, clip, shades, video_file
from tests.reading import RATE, listen, refusal, watch

_TIGHT = Limits(max_media_seconds=20, max_video_frames=2000, max_video_pixels=256 * 256)


@pytest.mark.parametrize("form", ["wav", "mp3", "opus", "flac", "mka", "mkv", "fragments", "vp9"])
@pytest.mark.parametrize("share", [0.4, 0.7])
def test_a_file_that_breaks_off_yields_what_it_holds(form: str, share: float) -> None:
    whole = clip(form)
    part = whole[: int(share * len(whole))]
    heard, before = listen(part), listen(whole)
    assert 0.3 < heard.duration_sec < 2.6
    kept = min(round((heard.duration_sec - 0.1) * RATE), len(heard.samples))
    assert np.abs(heard.samples[:kept] - before.samples[:kept]).max() < 0.05
    if form in PICTURE:
        assert watch(part).segments < 3


@pytest.mark.parametrize("form", ["mp4", "mov", "m4a"])
def test_an_mp4_without_its_index_is_damaged(form: str) -> None:
    whole = clip(form)
    assert refusal(whole[: whole.index(b"moov") - 4]).code == "media_corrupt"


@pytest.mark.parametrize("form", ["mp4", "mkv", "vp9", "flac", "opus", "m4a"])
def test_a_body_of_garbage_is_damaged(form: str) -> None:
    whole = bytearray(clip(form))
    begin = whole.index(b"mdat") + 4 if form in ("mp4", "m4a") else 700
    end = whole.index(b"moov") - 4 if form in ("mp4", "m4a") else len(whole)
    whole[begin:end] = np.random.default_rng(2).bytes(end - begin)
    read = watch if form in PICTURE else listen
    with pytest.raises(InputError) as raised:
        read(bytes(whole))
    assert raised.value.code in ("media_corrupt", "empty_input")


_MUTATED = [
    "wav",
    "mp3",
    "opus",
    "vorbis",
    "flac",
    "m4a",
    "webm",
    "mp4",
    "mkv",
    "vp8",
    "vp9",
    "av1",
    "mpeg4",
    "fragments",
]


@pytest.mark.parametrize("form", _MUTATED)
def test_three_hundred_mutations(form: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Only our errors, only our words, no more segments than the limit, and not a word on stderr."""
    whole, chance = clip(form), np.random.default_rng(7)
    outcomes = [attempt(mutated(whole, chance)) for _ in range(300)]
    assert any(isinstance(outcome, int) for outcome in outcomes)
    errors = [outcome for outcome in outcomes if isinstance(outcome, InputError)]
    assert not any("Errno" in error.message or "av." in error.message for error in errors)
    assert capfd.readouterr() == ("", "")


def mutated(data: bytes, chance: np.random.Generator) -> bytes:
    """`data` with bytes changed, cut out, doubled or cut off; half of the time near the head, where headers are."""
    damaged = bytearray(data)
    reach = min(len(damaged), 600) if chance.random() < 0.5 else len(damaged)
    for _ in range(chance.integers(1, 12)):
        at = int(chance.integers(reach))
        match chance.integers(6):
            case 0 | 1 | 2:
                damaged[at] = chance.integers(256)
            case 3:
                damaged[at : at + 4] = chance.choice([b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", bytes(4)])
            case 4:
                del damaged[at : at + int(chance.integers(1, 40))]
            case _:
                damaged[at:at] = damaged[at : at + int(chance.integers(1, 40))]
        reach = max(1, min(reach, len(damaged)))
    return bytes(damaged[: len(damaged) if chance.random() < 0.8 else reach])


def attempt(data: bytes) -> int | InputError:
    """The segments of `data`, or the error; no other error is let through."""
    excerpt = Excerpt(*((0.0, None), (1.0, 2.5))[len(data) % 2])
    truncate: Any = ("none", "start", "end")[len(data) % 3]
    try:
        tracks = probe(data, _TIGHT)
        segments = 0
        if tracks.has_audio:
            segments += listen(data, limits=_TIGHT, excerpt=excerpt, truncate=truncate).segments
        if tracks.has_video:
            segments += watch(data, limits=_TIGHT, excerpt=excerpt, truncate=truncate).segments
    except InputError as error:
        return error
    assert 1 <= segments <= 2 * _TIGHT.max_media_seconds
    return segments


def test_a_last_packet_from_another_age() -> None:
    """One wrong time at the end must not pass for a length."""
    starts = [number / 10 for number in range(30)]
    video = video_file("mkv", shades([80] * 31), times=[*starts, 5000.0])
    with pytest.raises(InputError) as raised:
        watch(video)
    assert raised.value.code == "media_too_long"
    assert watch(video, limits=_TIGHT, truncate="end").segments == 20
    assert watch(video, limits=_TIGHT, truncate="start").truncated
