"""The log-mel fixture of VGGish, and what the classic backbones promise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.backbones.classic import ClassicAudio, ClassicText, ClassicVideo
from training.backbones.logmel import LogMel, mel_matrix


@pytest.fixture(scope="module")
def sine_log_mel() -> torch.Tensor:
    """Three seconds of a 1 kHz sine as 298 log-mel frames, in float64."""
    wave = torch.sin(2 * np.pi * 1000 * torch.arange(48_000, dtype=torch.float64) / 16_000)
    return LogMel(torch.float64)(wave[None])[0]


def test_log_mel_meets_the_fixture(sine_log_mel: torch.Tensor) -> None:
    assert sine_log_mel.shape == (298, 64)
    patches = sine_log_mel[:288].reshape(3, 96, 64)
    assert patches.mean().item() == pytest.approx(-3.429619, abs=1e-6)
    assert patches.std(correction=0).item() == pytest.approx(2.126577, abs=1e-6)
    assert patches.min().item() == pytest.approx(-4.601163, abs=1e-6)
    assert patches.max().item() == pytest.approx(4.811118, abs=1e-6)
    expected = {
        0: -4.48313, 10: -3.47829, 18: 2.69300, 19: 4.81112, 20: 4.77504, 21: 2.26222, 24: -2.36048, 63: -4.60116,
    }  # fmt: skip
    for band, value in expected.items():
        assert patches[0, 0, band].item() == pytest.approx(value, abs=1e-5)
    assert int(patches.mean(dim=(0, 1)).argmax()) == 19


def test_float32_keeps_the_fixture(sine_log_mel: torch.Tensor) -> None:
    wave = torch.sin(2 * np.pi * 1000 * torch.arange(48_000, dtype=torch.float64) / 16_000).float()
    assert (LogMel()(wave[None])[0] - sine_log_mel).abs().max().item() < 1e-3


def test_mel_matrix_constants() -> None:
    weights = mel_matrix()
    assert weights.shape == (257, 64)
    assert weights.sum() == pytest.approx(230.91360, abs=1e-5)
    assert (weights > 0).sum() == 461
    assert (weights.sum(axis=0) > 0).all()


def test_silence_is_the_logarithm_of_the_offset() -> None:
    assert torch.allclose(LogMel()(torch.zeros(1, 16_000)), torch.full((1, 98, 64), -4.605170))


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(0, 2**31))
def test_segments_do_not_see_each_other(batch: int, time: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    waves = torch.randn(batch, time * 16_000, generator=generator)
    audio = ClassicAudio()
    assert torch.allclose(audio(waves)[:, -1:], audio(waves[:, -16_000:]), atol=1e-5)
    frames = torch.randint(0, 256, (batch, time, 4, 112, 112, 3), generator=generator, dtype=torch.uint8)
    video = ClassicVideo()
    assert torch.allclose(video(frames)[:, -1:], video(frames[:, -1:]), atol=1e-5)


def test_video_features_have_the_stated_shape_and_no_negative() -> None:
    frames = torch.randint(0, 256, (2, 3, 4, 112, 112, 3), dtype=torch.uint8)
    features = ClassicVideo()(frames)
    assert features.shape == (2, 3, 7, 7, ClassicVideo.spec.feature_dim)
    assert features.min().item() >= 0


def test_a_still_picture_has_no_motion() -> None:
    frame = torch.randint(0, 256, (1, 1, 1, 112, 112, 3), dtype=torch.uint8)
    features = ClassicVideo()(frame.expand(1, 1, 4, 112, 112, 3))
    motion_and_flicker = features[..., -13:]
    assert motion_and_flicker.abs().max().item() == 0


def test_related_spellings_are_near() -> None:
    table = ClassicText(["bark", "##bark", "barking", "train"]).table
    cosine = torch.nn.functional.cosine_similarity(table[0], table[1:], dim=-1)
    assert cosine[0].item() == pytest.approx(1.0, abs=1e-5)
    assert cosine[1].item() > cosine[2].item() + 0.2


def test_a_slot_is_the_mean_of_its_pieces() -> None:
    text = ClassicText(["a", "b", "c"], feature_dim=16)
    slots = torch.tensor([[[1.0, 0, 0], [0, 0.5, 0.5]]])
    features = text(torch.tensor([[0, 1, 2]]), slots)
    assert torch.allclose(features[0, 0], text.table[0])
    assert torch.allclose(features[0, 1], (text.table[1] + text.table[2]) / 2)
