"""FCID: its size, its gradients, its inference against float64 by hand, and what its codes must not depend on."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tessera.windows import MODALITIES, Modality
from tests.training.small import SEGMENTS, SLOTS, RandomClips, small_recipe
from training.config import Recipe
from training.models.fcid import FCID

ROWS = torch.arange(8)


def small_fcid(**parts: dict[str, Any]) -> tuple[FCID, dict[str, Tensor]]:
    """A model after one batch, so that its codebook has started, and a batch for it."""
    torch.manual_seed(0)
    recipe = small_recipe(**parts)
    model, clips = FCID(recipe), RandomClips(recipe)
    model.train().encode(clips.batch(ROWS))
    return model, clips.batch(ROWS + 8)


def mask_of(modality: Modality, batch: dict[str, Tensor]) -> Tensor | None:
    return batch["text_mask"] if modality == "text" else None


def gradients(module: torch.nn.Module) -> list[Tensor]:
    return [p.grad for p in module.parameters() if p.grad is not None]


def test_the_published_size_is_the_key_table_less_its_dead_and_counted_parts() -> None:
    with torch.device("meta"):
        model = FCID(Recipe.load("fcid-paper"))
    sizes = {name: sum(p.numel() for p in m.parameters()) for name, m in model.main_modules().items()}
    layer = 4 * 256 * 256 + 4 * 256 + 2 * 256 * 1024 + 1024 + 256 + 4 * 256
    never_run = 3 * layer  # the template of each temporal block
    no_effect = 2 * (256 * 512 + 256) + 256 + 1  # the softmax over one cell: affine_video_* and ave_v_att
    codebook = 2 * 400 * 256 + 2 * 400
    assert sizes["encoder"] + never_run + no_effect + codebook == 78_420_001
    assert sizes["decoders"] == 37_490_816
    assert sizes["predictors"] == 2 * (2 * (4 * 256 * 512 + 2 * 4 * 256) + 256 * 256 + 256)
    clubs = [sum(p.numel() for p in net.parameters()) for net in model.inner_modules()]
    trunk = 2 * (256 * 128 + 128 + 2 * (128 * 128 + 128))
    assert sorted(clubs) == [trunk + 2 * (128 * y + y) for y in (256, 256, 256, 512)]


def test_every_main_parameter_is_trained_and_clipped_once() -> None:
    model, batch = small_fcid()
    groups = [set(map(id, m.parameters())) for m in (*model.main_modules().values(), *model.inner_modules())]
    everything = set(map(id, model.parameters()))
    assert sum(map(len, groups)) == len(everything)
    assert set().union(*groups) == everything
    torch.stack([*model.losses(model.encode(batch)).values()]).sum().backward()  # type: ignore[no-untyped-call]
    for module in model.main_modules().values():
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0 or name.endswith("in_proj_bias"), name


def test_the_main_step_gives_club_nets_nothing_yet_passes_through_them() -> None:
    model, batch = small_fcid()
    losses = model.losses(model.encode(batch))
    losses["club/audio"].backward()  # type: ignore[no-untyped-call]
    assert not gradients(model.club)
    assert gradients(model.temporal["audio"])
    assert gradients(model.audio_specific)
    assert all(p.requires_grad for p in model.club.parameters())


def test_the_inner_step_gives_the_encoder_nothing() -> None:
    model, batch = small_fcid()
    inner = model.inner_losses(model.encode(batch))
    torch.stack([*inner.values()]).sum().backward()  # type: ignore[no-untyped-call]
    assert not any(gradients(module) for module in model.main_modules().values())
    assert all(len(gradients(net)) == len([*net.parameters()]) for net in model.inner_modules())


def test_losses_go_by_these_names() -> None:
    model, batch = small_fcid()
    assert sorted(model.losses(model.encode(batch))) == sorted(
        [
            *(f"reconstruction/{name}" for name in ("video", "audio")),
            *(f"reconstruction/coarse_{name}" for name in MODALITIES),
            *(f"commitment/{name}" for name in MODALITIES),
            *(f"club/{name}" for name in ("audio", "video", "media", "text")),
            *(f"infonce/{name}" for name in ("audio", "video")),
            "cmcm",
            "cpc",
        ]
    )


@pytest.mark.parametrize("seconds", [1, 2, 3])
def test_any_length_trains_and_cpc_needs_two_segments(seconds: int) -> None:
    model, batch = small_fcid()
    shorter = {**batch, "audio": batch["audio"][:, :seconds], "video": batch["video"][:, :seconds]}
    losses = model.losses(model.encode(shorter))
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert (losses["cpc"] == 0) == (seconds == 1)


@pytest.mark.parametrize("modality", MODALITIES)
def test_codes_of_a_clip_do_not_depend_on_its_batch(modality: Modality) -> None:
    model, batch = small_fcid()
    model.eval()
    together = model.segment_latents(modality, batch[modality], mask_of(modality, batch))
    clips = model.clip_latents(modality, batch[modality], mask_of(modality, batch))
    for row in range(len(batch[modality])):
        mask = None if modality != "text" else batch["text_mask"][row : row + 1]
        alone = batch[modality][row : row + 1]
        torch.testing.assert_close(
            model.segment_latents(modality, alone, mask)[0], together[row], rtol=1e-5, atol=1e-6
        )
        torch.testing.assert_close(
            model.clip_latents(modality, alone, mask)[0], clips[row], rtol=1e-5, atol=1e-6
        )


def test_codes_of_a_text_do_not_depend_on_its_padding() -> None:
    model, batch = small_fcid()
    model.eval()
    garbage = torch.where(batch["text_mask"].unsqueeze(-1), batch["text"], torch.tensor(1e3))
    segments = model.segment_latents("text", garbage, batch["text_mask"])
    clips = model.clip_latents("text", garbage, batch["text_mask"])
    lengths = batch["text_mask"].sum(1).tolist()
    assert min(lengths) < SLOTS
    for row, words in enumerate(lengths):
        alone = batch["text"][row : row + 1, :words]
        torch.testing.assert_close(
            model.segment_latents("text", alone)[0], segments[row, :words], rtol=1e-5, atol=1e-6
        )
        torch.testing.assert_close(model.clip_latents("text", alone)[0], clips[row], rtol=1e-5, atol=1e-6)


def test_without_a_mask_the_zeros_of_a_text_count() -> None:
    model, batch = small_fcid()
    model.eval()
    masked = model.clip_latents("text", batch["text"], batch["text_mask"])
    whole = model.clip_latents("text", batch["text"])
    full = batch["text_mask"].all(1)
    torch.testing.assert_close(masked[full], whole[full], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(masked[~full], whole[~full], atol=1e-4)


def test_thinned_words_are_words_of_the_text_and_at_least_one() -> None:
    model, batch = small_fcid(training={"crop": [1, 10]})
    kept = [model._thin(batch["text"], batch["text_mask"]) for _ in range(50)]
    for mask in kept:
        assert mask is not None
        assert not (mask & ~batch["text_mask"]).any()
        assert mask.any(1).all()
    assert any(not torch.equal(mask, batch["text_mask"]) for mask in kept if mask is not None)


def test_a_crop_is_one_stretch_of_sound_and_picture() -> None:
    model, batch = small_fcid(training={"crop": [2, 4]})
    lengths, starts = set(), set()
    for _ in range(60):
        audio, video = model._crop(batch["audio"], batch["video"])
        (start,) = [
            s for s in range(SEGMENTS) if torch.equal(batch["audio"][:, s : s + audio.shape[1]], audio)
        ]
        assert torch.equal(batch["video"][:, start : start + audio.shape[1]], video)
        lengths.add(audio.shape[1])
        starts.add(start)
    assert lengths == {2, 3, 4}
    assert starts == set(range(SEGMENTS - 1))


def test_the_spatial_mean_gives_the_same_video_codes_as_the_map() -> None:
    model, batch = small_fcid()
    model.eval()
    mean = batch["video"].mean(dim=(2, 3))
    assert torch.equal(model.segment_latents("video", batch["video"]), model.segment_latents("video", mean))
    assert torch.equal(model.clip_latents("video", batch["video"]), model.clip_latents("video", mean))


def test_one_segment_is_its_own_clip() -> None:
    model, batch = small_fcid()
    model.eval()
    second = batch["audio"][:, :1]
    segment, clip = model.segment_latents("audio", second), model.clip_latents("audio", second)
    torch.testing.assert_close(segment[:, 0], clip)


def by_hand(model: FCID, modality: Modality, x: Tensor, pool: bool) -> Tensor:
    """docs/fcid.md 1 for one clip [T, ...] in float64, from the weights alone."""
    w = {name: tensor.double() for name, tensor in model.state_dict().items()}
    x = x.double()
    if modality == "video":
        mean = torch.stack([sum(segment.flatten(0, 1)) / 25 for segment in x])  # type: ignore[misc]
        squeezed = (mean @ w["video_pooling.squeeze.weight"].T).clamp(min=0)
        x = 25 * mean * (1 + 1 / (1 + torch.exp(-squeezed @ w["video_pooling.excite.weight"].T)))
    block, layer = f"temporal.{modality}.", f"temporal.{modality}.layers.0."
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
    z = (z.mean(0) if pool else z) @ w[f"projector.{branch}.weight"].T + w[f"projector.{branch}.bias"]
    return (z @ w[f"general.{branch}.linear.weight"].T + w[f"general.{branch}.linear.bias"]).clamp(min=0)


def standardised(z: Tensor) -> Tensor:
    centred = z - z.mean(-1, keepdim=True)
    return centred / torch.sqrt(centred.square().mean(-1, keepdim=True) + 1e-5)


@pytest.mark.parametrize("modality", MODALITIES)
def test_latents_and_codes_equal_the_formulas_by_hand(modality: Modality) -> None:
    model, batch = small_fcid()
    model.eval()
    features = batch[modality]
    segments, clips = model.segment_latents(modality, features), model.clip_latents(modality, features)
    table = model.codebook.sums.double() / model.codebook.counts.double()[:, None]
    for row, x in enumerate(features):
        for latents, expected in (
            (segments[row], by_hand(model, modality, x, pool=False)),
            (clips[row], by_hand(model, modality, x, pool=True)),
        ):
            torch.testing.assert_close(latents.double(), expected, rtol=1e-4, atol=1e-5)
            codes, margins = model.codebook.assign(latents)
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
            latents = self.model.segment_latents(modality, x)
            return *self.model.codebook.assign(latents), self.model.clip_latents(modality, x)

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
    decoder = model.decoders["video"]
    specific, general = torch.randn(4, 6, 1, 1), torch.randn(2, 2, 16)
    cells = decoder.general(general).reshape(4, 16, 1, 1)  # type: ignore[operator]
    expected = decoder.convolutions(torch.cat([cells, specific], 1))  # type: ignore[operator]
    torch.testing.assert_close(
        decoder(specific, general), expected.permute(0, 2, 3, 1).reshape(2, 2, 5, 5, 8)
    )


def test_the_residual_skip_carries_the_rectified_input() -> None:
    model, _ = small_fcid()
    block = model.video_specific.convolutions[5]
    x = torch.randn(2, 6, 3, 3)
    r = F.relu(x)
    inner = F.conv2d(r, block.conv3.weight, padding=1)  # type: ignore[union-attr,arg-type]
    expected = F.relu(r + F.conv2d(F.relu(inner), block.conv1.weight))  # type: ignore[union-attr,arg-type]
    torch.testing.assert_close(block(x), expected)
