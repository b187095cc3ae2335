"""Codes of an item do not depend on the batch it rides in, on its neighbours, or on the way it came in."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tessera import Encoding, InputError, Tokenizer
from tessera.windows import Window, WindowCodes
from tests.media_files import sine, sound_file

SENTENCES = (
    "a dog barks",
    "rain falls on the roof at night",
    "the bell",
    "a siren is heard in the street, loudly",
)


@pytest.fixture(scope="module")
def tokenizer(bundle_dir: Path) -> Tokenizer:
    return Tokenizer.load(bundle_dir)


def random_window(kind: str, seed: int) -> Window:
    """A window of noise of a random length."""
    rng = np.random.default_rng(seed)
    segments = int(rng.integers(1, 11))
    if kind == "audio":
        wave = rng.normal(0, rng.uniform(0.001, 0.3), segments * 16_000).astype(np.float32)
        return Window("audio", {"waveform": wave}, segments)
    if kind == "video":
        frames = rng.integers(0, 256, (min(segments, 2), 4, 112, 112, 3), dtype=np.uint8)
        return Window("video", {"frames": frames}, len(frames))
    if kind == "text":
        ids = rng.integers(2, 200, segments + 2)
        slots = np.zeros((segments, len(ids)), np.float32)
        slots[np.arange(segments), np.arange(segments)] = 1.0
        return Window("text", {"input_ids": ids, "slots": slots}, segments)
    features = rng.normal(0.5, 0.5, (segments, 128)).astype(np.float32)
    return Window("audio", {"features": features}, segments, stage="features")


def assert_same(left: WindowCodes, right: WindowCodes) -> None:
    assert np.array_equal(left.codes, right.codes)
    assert np.array_equal(left.embeddings, right.embeddings)
    assert np.allclose(left.latents, right.latents, atol=1e-4)
    assert left.clip_code is not None
    assert right.clip_code is not None
    assert np.array_equal(left.clip_code, right.clip_code)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(["audio", "video", "text", "features"]), st.integers(1, 12), st.integers(0, 2**31))
def test_an_item_alone_equals_the_item_in_any_batch(
    tokenizer: Tokenizer, kind: str, count: int, seed: int
) -> None:
    item = random_window(kind, seed)
    others = [random_window(kind, seed + 1 + i) for i in range(60)]
    batch = [item, *[other for other in others if other.key == item.key][: count - 1]]
    random.Random(seed).shuffle(batch)
    (alone,) = tokenizer.run([item])
    assert_same(tokenizer.run(batch)[[w is item for w in batch].index(True)], alone)


@settings(max_examples=15, deadline=None)
@given(st.integers(11, 35), st.integers(0, 2**31))
def test_a_window_of_a_long_clip_equals_the_window_alone(
    tokenizer: Tokenizer, segments: int, seed: int
) -> None:
    features = np.random.default_rng(seed).normal(0.5, 0.5, (segments, 128)).astype(np.float32)
    whole = tokenizer.encode_features("audio", features)
    parts = [tokenizer.encode_features("audio", features[i : i + 10]) for i in range(0, segments, 10)]
    assert np.array_equal(whole.codes, np.concatenate([part.codes for part in parts]))


def test_the_clip_code_is_what_most_segments_vote_for(tokenizer: Tokenizer) -> None:
    rng = np.random.default_rng(3)
    features = rng.normal(0.5, 0.5, (25, 128)).astype(np.float32)
    clip = tokenizer.encode_features("audio", features)
    windows = [tokenizer.encode_features("audio", features[i : i + 10]) for i in (0, 10, 20)]
    votes: dict[int, int] = {}
    for window in windows:
        assert window.clip_codes is not None
        votes[int(window.clip_codes[0])] = votes.get(int(window.clip_codes[0]), 0) + len(window.codes)
    assert clip.clip_codes is not None
    assert votes[int(clip.clip_codes[0])] == max(votes.values())


def test_a_path_and_its_bytes_are_equal(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "sine.wav"
    path.write_bytes(sound_file("wav", sine(12.4, 22_050), 22_050))
    by_path, by_bytes = tokenizer.encode(path), tokenizer.encode(path.read_bytes())
    assert by_path.modality == "audio"
    assert by_path.duration_sec == pytest.approx(12.4, abs=0.01)
    assert len(by_path.codes) == 13
    assert np.array_equal(by_path.latents, by_bytes.latents)


def test_embeddings_are_a_pure_function_of_codes(tokenizer: Tokenizer) -> None:
    for sentence in SENTENCES:
        encoding = tokenizer.encode_text(sentence)
        assert np.array_equal(tokenizer.detokenize(encoding.codes), encoding.embeddings)


def test_text_has_a_segment_a_word_and_no_times(tokenizer: Tokenizer, tmp_path: Path) -> None:
    encoding = tokenizer.encode_text("A dog barks, twice!")
    assert encoding.codes.shape == (4, 1)
    assert (encoding.hop_sec, encoding.duration_sec) == (None, None)
    (tmp_path / "caption.txt").write_text("A dog barks, twice!")
    assert np.array_equal(tokenizer.encode(tmp_path / "caption.txt").codes, encoding.codes)


def test_margins_are_the_gap_between_the_two_nearest_codes(tokenizer: Tokenizer) -> None:
    """Shown where nothing is cut away: a bundle that keeps every channel would agree with its own table."""
    encoding: Encoding = tokenizer.encode_text("a dog barks")
    assert encoding.margins.shape == encoding.codes.shape
    assert (encoding.margins >= 0).all()


@pytest.mark.parametrize(
    ("codes", "code"),
    [([[16]], "code_out_of_range"), ([[-1]], "code_out_of_range"), ([[1, 2]], "invalid_value")],
)
def test_codes_that_do_not_exist(tokenizer: Tokenizer, codes: list[list[int]], code: str) -> None:
    with pytest.raises(InputError) as caught:
        tokenizer.detokenize(np.array(codes, dtype=np.int64))
    assert caught.value.code == code


@pytest.mark.parametrize("shape", [(0, 128), (3, 127), (128,)])
def test_features_of_another_shape(tokenizer: Tokenizer, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError) as caught:
        tokenizer.encode_features("audio", np.zeros(shape, np.float32))
    assert caught.value.code == "invalid_value"


def test_features_that_are_not_finite(tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match="finite"):
        tokenizer.encode_features("audio", np.full((1, 128), np.nan, np.float32))
