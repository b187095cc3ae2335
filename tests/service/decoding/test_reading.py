"""A clip that is decoded in another process is the clip that is decoded here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from service.decoding.processes import ProcessDecoding
from tessera.clips import Clip
from tessera.errors import InputError
from tessera.limits import Truncate
from tessera.opener import ClipOpener
from tessera.tokenizer import Tokenizer
from tessera.windows import Modality, Window
from tests.media_files import PICTURE, SOUND, chirp, clip, sine, sound_file
from tests.service.decoding.reading import media, read, read_whole, with_decoders


def assert_equal(windows: list[Window], there: Clip, here: Clip) -> None:
    """Both have the same windows and times."""
    for window, expected in zip(windows, here, strict=True):
        assert (window.modality, window.segments) == (expected.modality, expected.segments)
        assert window.inputs.keys() == expected.inputs.keys()
        for name, array in expected.inputs.items():
            assert window.inputs[name].dtype == array.dtype
            np.testing.assert_array_equal(window.inputs[name], array)
    for field in ("modality", "hop_sec", "start_sec", "duration_sec", "truncated"):
        assert getattr(there, field) == getattr(here, field)


@pytest.mark.parametrize("form", [*SOUND, *PICTURE])
def test_every_form_is_read_alike(tokenizer: Tokenizer, form: str) -> None:
    modality: Modality = "audio" if form in SOUND else "video"
    data = clip(form)

    async def compare(decoding: ProcessDecoding) -> None:
        windows, there = await read(decoding.reader(tokenizer, media(modality, data), "none"))
        assert_equal(windows, there, tokenizer.open(data, modality))

    with_decoders(compare)


@pytest.mark.parametrize("truncate", ["start", "end"])
@pytest.mark.parametrize("count", [1, 3, 100])
def test_a_long_clip_comes_in_parts(tokenizer: Tokenizer, truncate: Truncate, count: int) -> None:
    opener = ClipOpener(tokenizer.bundle, tokenizer.limits.__class__(max_media_seconds=70))
    data = sound_file("flac", chirp(95.5), 16_000)

    async def compare(decoding: ProcessDecoding) -> None:
        item = media("audio", data, start_sec=3.5, end_sec=91.25)
        windows, there = await read(decoding.reader(opener, item, truncate), count)
        here = opener.open(data, "audio", start_sec=3.5, end_sec=91.25, truncate=truncate)
        assert there.truncated
        assert_equal(windows, there, here)

    with_decoders(compare)


@pytest.mark.parametrize(
    ("data", "fields", "limits", "code"),
    [
        (b"", {}, {}, "empty_input"),
        (b"neither sound nor picture", {}, {}, "unsupported_media"),
        (clip("wav"), {"start_sec": 3000.0}, {}, "invalid_value"),
        (clip("flac")[:60], {}, {}, "media_corrupt"),
        (sound_file("wav", sine(3.0), 16_000), {}, {"max_media_seconds": 2.0}, "media_too_long"),
        (clip("wav"), {}, {"max_media_bytes": 100}, "media_too_large"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_error_is_the_same_error(
    tokenizer: Tokenizer, data: bytes, fields: dict[str, Any], limits: dict[str, Any], code: str
) -> None:
    opener = ClipOpener(tokenizer.bundle, tokenizer.limits.__class__(**limits))
    with pytest.raises(InputError) as here:
        list(opener.open(data, "audio", **fields))

    async def compare(decoding: ProcessDecoding) -> None:
        with pytest.raises(InputError) as there:
            await read_whole(decoding, opener, media("audio", data, **fields))
        assert vars(there.value) == vars(here.value)
        assert there.value.code == code
        good = await read_whole(decoding, tokenizer, media("audio", clip("wav")))
        assert len(good) == len(list(tokenizer.open(clip("wav"), "audio")))

    with_decoders(compare)
