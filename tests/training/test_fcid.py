"""FCID: its inference against float64 by hand, clip codes, and what they must not depend on."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tessera.windows import MODALITIES, Modality
from tests.training.small import SEGMENTS, SLOTS, RandomClips, small_recipe
from training.models.fcid import FCID

ROWS = torch.arange(8)


def small_fcid(**parts: dict[str, Any]) -> tuple[FCID, dict[str, Tensor]]:
    """A model after one batch, so that its codebook has started, and a batch for it."""
    torch.manual_seed(0)
    recipe = small_recipe(**parts)
    model, clips = FCID(recipe), RandomClips(recipe)
    model.train().encode(clips.batch(ROWS), torch.Generator())
    return model, clips.batch(ROWS + 8)


def mask_of(modality: Modality, batch: dict[str, Tensor]) -> Tensor | None:
    return batch["text_mask"] if modality == "text" else None


@pytest.mark.parametrize("modality", MODALITIES)
def test_clip_codes_do_not_depend_on_the_batch_or_on_padding(modality: Modality) -> None:
    model, batch = small_fcid()
    model.eval()
    features, mask = batch[modality], mask_of(modality, batch)
    if mask is not None:
        features = torch.where(mask.unsqueeze(-1), features, torch.tensor(1e3))
    clips = model.clip_latents(modality, features, mask)
    for row, clip in enumerate(batch[modality]):
        real = SEGMENTS if mask is None else int(mask[row].sum())
        alone = model.clip_latents(modality, clip[None, :real])
        torch.testing.assert_close(alone[0], clips[row], rtol=1e-5, atol=1e-6)


def test_without_a_mask_the_zeros_of_a_text_count() -> None:
    model, batch = small_fcid()
    model.eval()
    masked = model.clip_latents("text", batch["text"], batch["text_mask"])
    whole = model.clip_latents("text", batch["text"])
    full = batch["text_mask"].all(1)
    torch.testing.assert_close(masked[full], whole[full], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(masked[~full], whole[~full], atol=1e-4)


def test_the_spatial_mean_gives_the_same_clip_code_as_the_map() -> None:
    model, batch = small_fcid()
    model.eval()
    mean = batch["video"].mean(dim=(2, 3))
    assert torch.equal(model.clip_latents("video", batch["video"]), model.clip_latents("video", mean))


def test_one_segment_is_its_own_clip() -> None:
    model, batch = small_fcid()
    model.eval()
    second = batch["audio"][:, :1]
    (segment,), clip = model.segment_latents("audio", second), model.clip_latents("audio", second)
    torch.testing.assert_close(segment[:, 0], clip)


def by_hand(model: FCID, modality: Modality, x: Tensor, pool: bool) -> Tensor:
    """docs/models.md 1 for one clip [T, ...] in float64, from the weights alone."""
    w = {name: tensor.double() for name, tensor in model.state_dict().items()}
    x = x.double()
    if modality == "video":
        mean = torch.stack([sum(segment.flatten(0, 1)) / 25 for segment in x])  # type: ignore[misc]
        squeezed = (mean @ w["fine.pooling.squeeze.weight"].T).clamp(min=0)
        x = 25 * mean * (1 + 1 / (1 + torch.exp(-squeezed @ w["fine.pooling.excite.weight"].T)))
    block = f"{'coarse' if modality == 'text' else 'fine'}.temporal.{modality}."
    layer = f"{block}layers.0."
    z = x @ w[block + "affine.weight"].T + w[block + "affine.bias"]
    q, k, v = (z @ w[layer + "self_attn.in_proj_weight"].T + w[layer + "self_attn.in_proj_bias"]).chunk(3, -1)
    heads, width = model.recipe.model.heads, model.recipe.model.dim // model.recipe.model.heads
    attended = []
    for head in range(heads):
        cut = slice(head * width, (head + 1) * width)
        attended.append(torch.softmax(q[:, cut] @ k[:, cut].T / math.sqrt(width), -1) @ v[:, cut])
    joined = torch.cat(attended, -1)
    z = z + joined @ w[layer + "self_attn.out_proj.weight"].T + w[layer + "self_attn.out_proj.bias"]
    z = standardised(z) * w[layer + "norm1.weight"] + w[layer + "norm1.bias"]
    hidden = (z @ w[layer + "linear1.weight"].T + w[layer + "linear1.bias"]).clamp(min=0)
    z = z + hidden @ w[layer + "linear2.weight"].T + w[layer + "linear2.bias"]
    z = standardised(z) * w[layer + "norm2.weight"] + w[layer + "norm2.bias"]
    branch = "text" if modality == "text" else "media"
    z = (z.mean(0) if pool else z) @ w[f"coarse.projector.{branch}.weight"].T
    z = z + w[f"coarse.projector.{branch}.bias"]
    general = f"coarse.general.{branch}.linear."
    return (z @ w[general + "weight"].T + w[general + "bias"]).clamp(min=0)


def standardised(z: Tensor) -> Tensor:
    centred = z - z.mean(-1, keepdim=True)
    return centred / torch.sqrt(centred.square().mean(-1, keepdim=True) + 1e-5)


@pytest.mark.parametrize("modality", MODALITIES)
def test_latents_and_codes_equal_the_formulas_by_hand(modality: Modality) -> None:
    model, batch = small_fcid()
    model.eval()
    features = batch[modality]
    (segments,), clips = model.segment_latents(modality, features), model.clip_latents(modality, features)
    quantizer = next(model.levels())
    state = quantizer.state_dict()
    table = state["codebook.sums"].double() / state["codebook.counts"].double()[:, None]
    for row, x in enumerate(features):
        for latents, expected in (
            (segments[row], by_hand(model, modality, x, pool=False)),
            (clips[row], by_hand(model, modality, x, pool=True)),
        ):
            torch.testing.assert_close(latents.double(), expected, rtol=1e-4, atol=1e-5)
            codes, margins = (part.squeeze(-1) for part in quantizer.assign(latents))
            nearest = torch.cdist(expected.reshape(-1, 16), table).argmin(-1).reshape(codes.shape)
            assert torch.equal(codes[margins > 1e-4], nearest[margins > 1e-4])
            assert (margins > 1e-4).any()


@pytest.mark.parametrize("modality", MODALITIES)
def test_inference_exports_with_free_batch_and_time(modality: Modality) -> None:
    class Codes(torch.nn.Module):
        def __init__(self, model: FCID) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            return *self.model.segment_codes(modality, x), self.model.clip_latents(modality, x)

    model, batch = small_fcid()
    module, features = Codes(model.eval()).eval(), batch[modality]
    axes = ({0: torch.export.Dim("batch"), 1: torch.export.Dim("time")},)
    with torch.no_grad():
        graph = torch.export.export(module, (features,), dynamic_shapes=axes)
        # A region of autocast would be a call that no ONNX graph has.
        assert not [node for node in graph.graph.nodes if "wrap" in str(node.target)]
        for shape in ((1, 1), (3, 4), (5, SLOTS)):
            x = features[: shape[0], : shape[1]]
            for exported, expected in zip(graph.module()(x), module(x), strict=True):
                torch.testing.assert_close(exported, expected, rtol=1e-4, atol=1e-5)


def test_the_decoder_of_a_picture_takes_the_code_in_front_of_its_map() -> None:
    model, _ = small_fcid()
    decoder = model.fine.decoders["video"]
    specific, general = torch.randn(4, 6, 1, 1), torch.randn(2, 2, 16)
    cells = decoder.general(general).reshape(4, 16, 1, 1)  # type: ignore[operator]
    expected = decoder.convolutions(torch.cat([cells, specific], 1))  # type: ignore[operator]
    torch.testing.assert_close(
        decoder(specific, general), expected.permute(0, 2, 3, 1).reshape(2, 2, 5, 5, 8)
    )


def test_the_residual_skip_carries_the_rectified_input() -> None:
    model, _ = small_fcid()
    block = model.fine.specific["video"].convolutions[5]
    x = torch.randn(2, 6, 3, 3)
    r = F.relu(x)
    inner = F.conv2d(r, block.conv3.weight, padding=1)  # type: ignore[union-attr,arg-type]
    expected = F.relu(r + F.conv2d(F.relu(inner), block.conv1.weight))  # type: ignore[union-attr,arg-type]
    torch.testing.assert_close(block(x), expected)
