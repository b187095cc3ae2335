"""From features to codes and vectors: of every method, on the kept channels, with and without dropout."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tessera.errors import TrainingError
from tessera.windows import MODALITIES
from tests.training.small import METHODS, SEGMENTS, RandomClips, small_recipe
from training.data.features import FeatureSet
from training.data.selection import Selection
from training.evaluation.coder import Coded, ModelCoder
from training.models.catalogue import build_model
from training.models.encoders import masked_mean
from training.models.fcid import FCID
from training.models.task import TaskModule
from training.toc import select_channels

KEEP = 5


def small_model(method: str) -> TaskModule[Any]:
    torch.manual_seed(0)
    return build_model(small_recipe(method)).eval()


def clips(method: str, count: int = 12) -> FeatureSet:
    tensors = RandomClips(small_recipe(method), count).tensors
    return FeatureSet(
        tensors["audio"].numpy(),
        tensors["video"].numpy(),
        tensors["text"].numpy(),
        tensors["text_mask"].sum(dim=1).numpy(),
        np.arange(count) % 3,
    )


@pytest.mark.parametrize("method", METHODS)
def test_vectors_are_what_the_codes_stand_for_on_the_kept_channels(method: str) -> None:
    model, data = small_model(method), clips(method)
    coder = ModelCoder(model, keep=KEEP)
    assert coder.modalities == tuple(m for m in MODALITIES if m in model.modalities)
    for modality in coder.modalities:
        coded = coder.encode(Selection.whole(data), modality)
        batch = data.batch(torch.arange(len(data)))
        mask = batch["text_mask"] if modality == "text" else None
        codes = model.segment_codes(modality, batch[modality], mask).codes
        assert torch.equal(coded.codes, codes)
        parts, place = [], 0
        for quantizer in model.levels():
            channels = select_channels(quantizer.table().detach(), KEEP)
            parts.append(quantizer.decode(codes[..., place : place + quantizer.levels])[..., channels])
            place += quantizer.levels
        assert place == len(coder.sizes) == codes.shape[-1]
        assert (codes.amax(dim=(0, 1)) < torch.tensor(coder.sizes)).all()
        torch.testing.assert_close(coded.vectors, torch.cat(parts, dim=-1).detach())
        expected = torch.ones(codes.shape[:2], dtype=torch.bool) if mask is None else mask
        assert torch.equal(coded.real, expected)


def test_levels_stand_side_by_side() -> None:
    data = clips("hdcid")
    coded = ModelCoder(small_model("hdcid"), keep=KEEP).encode(Selection.whole(data), "audio")
    assert coded.vectors.shape == (len(data), SEGMENTS, 2 * KEEP)
    assert ModelCoder(small_model("hdcid")).encode(Selection.whole(data), "audio").vectors.shape[-1] == 32


@pytest.mark.parametrize("method", ["fcid", "dcid", "hdcid"])
def test_a_clip_has_a_vector_of_its_own_code(method: str) -> None:
    model, data = small_model(method), clips(method)
    coder, batch = ModelCoder(model), data.batch(torch.arange(len(data)))
    for modality in coder.modalities:
        mask = batch["text_mask"] if modality == "text" else None
        if isinstance(model, FCID):
            latents = [model.clip_latents(modality, batch[modality], mask)]
        else:
            latents = [masked_mean(z, mask) for z in model.segment_latents(modality, batch[modality], mask)]
        expected = [q.decode(q.assign(z).codes) for q, z in zip(model.levels(), latents, strict=True)]
        vectors = coder.clip_vectors(Selection.whole(data), modality)
        torch.testing.assert_close(vectors, torch.cat(expected, dim=-1).detach().double())


def test_dropout_is_drawn_from_its_seed_and_leaves_no_trace() -> None:
    model, part = small_model("dcid"), Selection.whole(clips("dcid", 30))
    model.requires_grad_(False)
    coder = ModelCoder(model)
    served = coder.encode(part, "audio")
    torch.manual_seed(1)
    before = torch.rand(1)
    torch.manual_seed(1)
    first, same, other = (coder.encode(part, "audio", dropout_seed=seed) for seed in (3, 3, 4))
    assert torch.equal(torch.rand(1), before)
    assert torch.equal(first.codes, same.codes)
    assert not torch.equal(first.codes, other.codes)
    assert not model.training
    assert torch.equal(coder.encode(part, "audio").codes, served.codes)


def test_a_part_is_those_clips() -> None:
    data, rows = clips("dcid", 250), np.arange(249, 0, -2)
    coder = ModelCoder(small_model("dcid"))
    whole, part = coder.encode(Selection.whole(data), "text"), coder.encode(Selection(data, rows), "text")
    assert torch.equal(part.codes, whole.codes[rows.tolist()])


def test_empty_slots_are_encoded_as_words_where_they_count() -> None:
    model, data = small_model("dcid"), clips("dcid")
    coded = ModelCoder(model).encode(Selection.whole(data, every_slot=True), "text")
    assert coded.real.all()
    text = data.batch(torch.arange(len(data)))["text"]
    assert torch.equal(coded.codes, model.segment_codes("text", text, None).codes)


def test_pooling_and_counting_leave_padding_out() -> None:
    codes = torch.tensor([[[0], [2], [1]], [[2], [2], [2]]])
    real = torch.tensor([[True, True, False], [True, True, True]])
    coded = Coded(codes, real, torch.tensor([1.0, 10.0, 100.0])[codes])
    assert coded.pooled().tolist() == [[50.5], [100.0]]
    assert coded.histograms((3,)).tolist() == [[0.5, 0.0, 0.5], [0.0, 0.0, 1.0]]


def test_equal_codes_have_equal_vectors_however_many_segments_there_are() -> None:
    table = torch.randn(3, 16)
    lengths = torch.arange(1, 11)
    codes = torch.full((10, 10, 1), 2)
    coded = Coded(codes, torch.arange(10) < lengths[:, None], table[codes.squeeze(-1)])
    torch.testing.assert_close(
        coded.pooled(torch.float64), table[2].double().expand(10, -1), rtol=1e-14, atol=1e-14
    )


def test_what_the_data_lacks_is_said() -> None:
    silent = FeatureSet(None, np.zeros((2, 3, 5, 5, 8), np.float32), None, None, np.zeros(2, np.int64))
    with pytest.raises(TrainingError, match="no audio"):
        ModelCoder(small_model("dcid")).encode(Selection.whole(silent), "audio")
