"""What holds for every method: gradients, names, and what codes must not depend on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from tessera.windows import MODALITIES, Modality
from tests.training.small import METHODS, SEGMENTS, SLOTS, RandomClips, small_recipe
from training.config import Recipe
from training.models.catalogue import build_model
from training.models.encoders import spread_over_time
from training.models.hdcid import HDCID
from training.models.srcid import SRCID
from training.models.stretch import random_phrase, random_stretch, random_words
from training.models.task import TaskModule

ROWS = torch.arange(8)
CASES = [
    (name, modality)
    for name in METHODS
    for modality in MODALITIES
    if modality in small_recipe(name).modalities
]


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def started(method: str, **parts: dict[str, Any]) -> tuple[TaskModule[Any], dict[str, Tensor]]:
    """A model after one batch, so that its codebook has started, and a batch for it."""
    torch.manual_seed(0)
    recipe = small_recipe(method, **parts)
    model, clips = build_model(recipe), RandomClips(recipe)
    model.train().encode(clips.batch(ROWS), draws())
    return model, clips.batch(ROWS + 8)


def losses_of(model: TaskModule[Any], batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return model.losses(model.encode(batch, draws()), draws())


def total(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack([*losses.values()]).sum()


def gradients(module: torch.nn.Module) -> list[Tensor]:
    return [p.grad for p in module.parameters() if p.grad is not None]


@pytest.mark.parametrize("method", METHODS)
def test_every_parameter_is_trained_and_clipped_once(method: str) -> None:
    model, batch = started(method)
    groups = [set(map(id, m.parameters())) for m in (*model.main_modules().values(), *model.inner_modules())]
    everything = set(map(id, model.parameters()))
    assert sum(map(len, groups)) == len(everything)
    assert set().union(*groups) == everything
    total(losses_of(model, batch)).backward()  # type: ignore[no-untyped-call]
    for module in model.main_modules().values():
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None, name


@pytest.mark.parametrize("method", METHODS)
def test_the_main_step_gives_club_nets_nothing_yet_passes_through_them(method: str) -> None:
    model, batch = started(method)
    losses = losses_of(model, batch)
    bounds = [loss for name, loss in losses.items() if "club/" in name]
    assert bool(bounds) == bool([*model.inner_modules()])
    for loss in bounds:
        loss.backward(retain_graph=True)  # type: ignore[no-untyped-call]
    assert not any(gradients(net) for net in model.inner_modules())
    assert all(p.requires_grad for net in model.inner_modules() for p in net.parameters())
    if bounds:
        assert gradients(model.main_modules()["encoder"])


@pytest.mark.parametrize("method", METHODS)
def test_the_inner_step_gives_the_encoder_nothing(method: str) -> None:
    model, batch = started(method)
    inner = model.inner_losses(model.encode(batch, draws()))
    if not inner:
        return
    total(inner).backward()  # type: ignore[no-untyped-call]
    assert not any(gradients(module) for module in model.main_modules().values())
    assert all(len(gradients(net)) == len([*net.parameters()]) for net in model.inner_modules())


@pytest.mark.parametrize("method", METHODS)
def test_the_codebook_moves_in_training_alone_and_has_no_gradient(method: str) -> None:
    model, batch = started(method)
    buffers = {name: buffer.clone() for name, buffer in model.quantizers.named_buffers()}
    model.eval()
    total(losses_of(model, batch))
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in model.quantizers.named_buffers())
    model.train()
    total(losses_of(model, batch)).backward()  # type: ignore[no-untyped-call]
    assert all(buffer.grad is None for buffer in model.quantizers.buffers())
    # A finite scalar quantiser has a grid that never moves.
    moved = [name for name, b in model.quantizers.named_buffers() if not torch.equal(b, buffers[name])]
    assert bool(moved) == (method != "dcid-fsq")


def expected_names(recipe: Recipe) -> set[str]:
    modalities = set(recipe.modalities)
    commitment = {f"commitment/{m}" for m in modalities}
    cmcm = {"cmcm"} if recipe.codebook.quantizer == "vq" else set()
    pairs = {"audio_video", "audio_text", "video_text"}
    contrast = {f"contrast/{pair}" for pair in pairs} if recipe.model.encoder == "canonical" else set()
    if recipe.method == "canonical":
        return contrast
    level = {f"{term}/{m}" for term in ("reconstruction", "club") for m in modalities} | {"cpc"}
    if recipe.method in ("dcid", "hdcid", "srcid") or recipe.half == "fine":
        names = level | commitment | cmcm | contrast
        return names if recipe.method in ("dcid", "fcid") else names | {f"level2/{name}" for name in names}
    if recipe.method in ("vq", "cmcm"):
        matching = {f"infonce/{pair}" for pair in pairs} | {"cmcm"}
        vq = {f"reconstruction/{m}" for m in modalities} | commitment
        return vq | matching if recipe.method == "cmcm" else vq
    fine = {f"{term}/{m}" for term in ("reconstruction", "club") for m in ("audio", "video")} | {"cpc"}
    key = "text" if "text" in modalities else "audio"
    coarse = {f"reconstruction/coarse_{m}" for m in modalities} | {f"infonce/{m}" for m in modalities - {key}}
    branches = {f"club/{'text' if m == 'text' else 'media'}" for m in modalities}
    return coarse | branches | commitment | cmcm | (fine if recipe.half is None else set())


@pytest.mark.parametrize("method", METHODS)
def test_losses_go_by_these_names(method: str) -> None:
    model, batch = started(method)
    losses = losses_of(model, batch)
    assert set(losses) == expected_names(model.recipe)
    assert all(loss.dim() == 0 and torch.isfinite(loss) for loss in losses.values())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seconds", [1, 2, 3])
def test_any_length_trains_and_cpc_needs_two_segments(method: str, seconds: int) -> None:
    model, batch = started(method)
    shorter = {**batch, "audio": batch["audio"][:, :seconds], "video": batch["video"][:, :seconds]}
    losses = losses_of(model, shorter)
    assert all(torch.isfinite(loss) for loss in losses.values())
    if "cpc" in losses:
        assert (losses["cpc"] == 0) == (seconds == 1)
    total(losses).backward()  # type: ignore[no-untyped-call]
    for module in model.main_modules().values():
        assert all(p.grad is not None for p in module.parameters())


@pytest.mark.parametrize(("method", "modality"), CASES)
def test_codes_of_a_clip_do_not_depend_on_its_batch_or_its_padding(method: str, modality: Modality) -> None:
    model, batch = started(method)
    model.eval()
    features, mask = batch[modality], batch["text_mask"] if modality == "text" else None
    if mask is not None:
        features = torch.where(mask.unsqueeze(-1), features, torch.tensor(1e3))
    together = model.segment_latents(modality, features, mask)
    assert len(together) == len(model.quantizers)
    for row, clip in enumerate(batch[modality]):
        real = SEGMENTS if mask is None else int(mask[row].sum())
        alone = model.segment_latents(modality, clip[None, :real])
        for one, many in zip(alone, together, strict=True):
            torch.testing.assert_close(one[0], many[row, :real], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("method", "modality"), CASES)
def test_codes_and_what_they_stand_for_have_a_place_for_every_level(method: str, modality: Modality) -> None:
    model, batch = started(method)
    model.eval()
    codes, margins = model.segment_codes(modality, batch[modality])
    levels = sum(quantizer.levels for quantizer in model.levels())
    assert codes.shape == margins.shape == (*batch[modality].shape[:2], levels)
    assert codes.dtype == torch.int64
    assert (margins >= 0).all()
    for quantizer, part in zip(
        model.levels(), codes.split([q.levels for q in model.levels()], -1), strict=True
    ):
        assert quantizer.decode(part).shape == (*part.shape[:2], 16)


@pytest.mark.parametrize("method", [m for m in METHODS if not m.startswith("hdcid")])
def test_the_spatial_mean_gives_the_same_video_codes_as_the_map(method: str) -> None:
    model, batch = started(method)
    if "video" not in model.modalities or len(model.quantizers) > 1:
        return
    model.eval()
    (maps,) = model.segment_latents("video", batch["video"])
    (mean,) = model.segment_latents("video", batch["video"].mean(dim=(2, 3)))
    assert torch.equal(maps, mean)


def parameters(model: TaskModule[Any], names: Iterator[str] | list[str]) -> int:
    return sum(sum(p.numel() for p in model.main_modules()[name].parameters()) for name in names)


LAYER = 4 * 256 * 256 + 4 * 256 + 2 * 256 * 1024 + 1024 + 256 + 4 * 256
CODEBOOK = 2 * 400 * 256 + 2 * 400
DEAD_VIDEO = 2 * (256 * 512 + 256) + 256 + 1  # the softmax over one cell: affine_video_* and ave_v_att
CLASSIFIERS = 256 * 256 + 256 + 141 * 256 + 141


@pytest.mark.parametrize(
    ("recipe", "modalities", "encoder", "dead", "decoders"),
    [
        ("dcid-paper", 3, 80_329_249, 3 * LAYER + DEAD_VIDEO + CODEBOOK, 37_402_663 - 3 * CLASSIFIERS),
        ("dcid-av-paper", 2, 77_828_385, 2 * LAYER + DEAD_VIDEO + CODEBOOK, 37_103_514 - 2 * CLASSIFIERS),
        ("dcid-at-paper", 2, 5_141_792, 2 * LAYER + CODEBOOK, 532_634 - 2 * CLASSIFIERS),
        ("hdcid-paper", 3, 88_299_841, 6 * LAYER + DEAD_VIDEO + 2 * CODEBOOK, 38_147_200),
        ("fcid-paper", 3, 78_420_001, 3 * LAYER + DEAD_VIDEO + CODEBOOK, 37_490_816),
    ],
)
def test_the_published_sizes_are_the_key_tables_less_their_dead_and_counted_parts(
    recipe: str, modalities: int, encoder: int, dead: int, decoders: int
) -> None:
    with torch.device("meta"):
        model = build_model(Recipe.load(recipe))
    assert len(model.modalities) == modalities
    assert parameters(model, ["encoder"]) + dead == encoder
    assert parameters(model, ["decoders"]) == decoders
    predictor = 2 * (4 * 256 * 512 + 2 * 4 * 256) + 256 * 256 + 256
    predicted = 2 if recipe == "fcid-paper" else modalities
    assert parameters(model, ["predictors"]) == predicted * predictor
    if "text LSTM" in model.main_modules():
        assert parameters(model, ["text LSTM"]) == 1_314_816


def test_words_are_spread_over_the_clip_in_their_order() -> None:
    words = torch.arange(4.0).reshape(1, 4, 1).repeat(3, 1, 2)
    mask = torch.tensor([[True, True, False, False], [True] * 4, [True, False, False, False]])
    spread = spread_over_time(words, mask, 10)
    assert spread.shape == (3, 10, 2)
    assert spread[:, :, 0].tolist() == [
        [0, 0, 0, 0, 0, 1, 1, 1, 1, 1],
        [0, 0, 0, 1, 1, 2, 2, 2, 3, 3],
        [0] * 10,
    ]
    assert torch.equal(spread_over_time(words, None, 4), words)


def test_words_that_are_picked_are_of_the_text_and_at_least_one() -> None:
    mask = torch.arange(SLOTS) < torch.randint(1, SLOTS + 1, (40, 1), generator=draws())
    text = torch.randn(40, SLOTS, 3, generator=draws())
    generator, whole, some = draws(), 0, 0
    for _ in range(20):
        chosen = random_words(mask, generator)
        assert not (chosen & ~mask).any()
        assert chosen.any(1).all()
        phrase, kept = random_phrase(text, mask, generator)
        assert kept.any(1).all()
        assert (kept.int().diff(dim=1) <= 0).all()
        for row in range(40):
            length, words = int(kept[row].sum()), int(mask[row].sum())
            starts = [
                s
                for s in range(words - length + 1)
                if torch.equal(text[row, s : s + length], phrase[row, :length])
            ]
            assert len(starts) == 1
            assert not phrase[row, length:].any()
        whole += int((kept == mask).all(1).sum()) + int((chosen == mask).all(1).sum())
        some += 80
    assert 0.5 < whole / some < 0.9


def test_a_stretch_is_within_the_clip_and_of_every_length() -> None:
    generator = draws()
    seen = {(s.start, s.stop) for s in (random_stretch((2, 4), 10, generator) for _ in range(2000))}
    assert seen == {(start, start + n) for n in (2, 3, 4) for start in range(11 - n)}
    assert random_stretch(None, 10, generator) == slice(None)
    assert random_stretch((3, 9), 2, generator) == slice(0, 2)


def test_the_second_level_of_hdcid_waits_for_its_steps() -> None:
    model, _ = started("hdcid")
    assert isinstance(model, HDCID)
    seen = []
    for _ in range(4):
        dormant = {id(p) for module in model.dormant_modules() for p in module.parameters()}
        seen.append((model.loss_weights(), len(dormant)))
        model.observe({})
    second = sum(1 for _ in model.second.parameters()) - sum(1 for _ in model.second.club.parameters())
    assert seen == [({"level2": 0.0}, second), ({"level2": 0.0}, second), ({}, 0), ({}, 0)]


def test_the_second_level_of_srcid_waits_for_the_information_to_fall_and_never_looks_back() -> None:
    model, _ = started("srcid")
    assert isinstance(model, SRCID)
    bounds = [0.1] * 3 + [4.0] * 30 + [0.0] * 40 + [4.0] * 40
    warm = []
    for bound in bounds:
        model.observe({"club/audio": 2 * bound, "club/video": 0.0, "cpc": 9.0})
        warm.append(model.is_warm())
    first = warm.index(True)
    # 0.95 ** 14 is the first power below one half.
    assert first == 33 + 13
    assert all(warm[first:])


def test_a_text_without_words_is_a_text_without_features() -> None:
    model, batch = started("fcid", training={"crop": [1, 10]})
    batch["text_mask"][0] = False
    assert all(torch.isfinite(loss) for loss in losses_of(model, batch).values())
