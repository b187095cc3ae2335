"""Codes of imported checkpoints equal an independent float64 computation on the files they come from.

Every modality, level and granularity of every format; video codes of a second level go through all convolutions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.released import files, reference
from training.checkpoint import load_model
from training.models.fcid import FCID
from training.models.hdcid import HDCID
from training.models.task import TaskModule
from training.quantizers.vector import VectorQuantizer
from training.released.importer import import_file

CLIPS, SEGMENTS, WORDS = 2, 10, (7, 3)
NEAR_TIE = 1e-4


@dataclass(frozen=True)
class Case:
    """An imported model, its features and what the reference makes of them: latents [..., 256] of each level.

    `quantizers` are the tensors of the file's codebooks, [levels, ...].
    """

    model: TaskModule[Any]
    step: int
    quantizers: dict[str, Tensor]
    features: dict[str, Tensor]
    segments: dict[str, list[Tensor]]
    clips: dict[str, Tensor]


def random_features(modalities: tuple[str, ...]) -> dict[str, Tensor]:
    """Float64 features; the slots behind the last word of a text are zeros, which count as published."""
    generator = torch.Generator().manual_seed(5)

    def normal(*shape: int) -> Tensor:
        return torch.randn(CLIPS, SEGMENTS, *shape, generator=generator, dtype=torch.float64)

    text, words = normal(768), torch.tensor(WORDS).unsqueeze(1)
    features = {
        "audio": normal(128),
        "video": normal(7, 7, 512).clamp(min=0),
        "text": text * (torch.arange(SEGMENTS) < words).unsqueeze(-1),
    }
    return {m: features[m] for m in modalities}


def codebook_among(latents: list[Tensor]) -> Tensor:
    """Codes close to the latents [..., 256], several to each, so that many different ones are nearest."""
    rows = torch.cat([z.flatten(0, -2) for z in latents])
    generator = torch.Generator().manual_seed(6)
    noise = torch.randn(files.CODES, 256, generator=generator, dtype=torch.float64)
    return rows[torch.arange(files.CODES) % len(rows)] + 0.05 * noise


@pytest.fixture(scope="module", params=files.KINDS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    kind, folder = request.param, tmp_path_factory.mktemp("released")
    file, features = files.released(kind), random_features(files.MODALITIES[request.param])
    clips: dict[str, Tensor] = {}
    if kind == "fcid":
        segments = {m: [reference.coarse_latents(file, m, x, clip=False)] for m, x in features.items()}
        clips = {m: reference.coarse_latents(file, m, x, clip=True) for m, x in features.items()}
    else:
        segments = {m: reference.latents(file, m, x) for m, x in features.items()}
    levels = len(segments["audio"])
    tables = torch.stack(
        [codebook_among([*clips.values(), *(z[i] for z in segments.values())]) for i in range(levels)]
    )
    name = "Cross_quantizer_coarse" if kind == "fcid" else "Cross_quantizer"
    encoder = file["Encoder_parameters"]
    encoder[f"{name}.embedding"] = tables if kind == "hdcid" else tables[0]
    quantizers = {
        part: encoder[f"{name}.{part}"].clone().view(levels, files.CODES, -1)
        for part in ("embedding", "ema_weight", "ema_count", "unactivated_count")
    }
    if kind == "micu":
        quantizers["embedding"][:, 0] = 0
    path = files.write(folder / f"{kind}.pt", file)
    import_file(path, folder / "checkpoint", "micu" if kind == "micu" else None)
    path.unlink()
    model, _, step = load_model(folder / "checkpoint")
    yield Case(model, step, quantizers, features, segments, clips)
    (folder / "checkpoint" / "model.safetensors").unlink()


def assert_codes_equal(codes: Tensor, table: Tensor, latents: Tensor) -> None:
    """But for near ties, of which there are few; and they are not all the same."""
    expected, margins = reference.nearest(table, latents)
    near_ties = margins < NEAR_TIE
    assert torch.equal(codes[~near_ties], expected[~near_ties])
    assert near_ties.double().mean() < 0.1
    assert len(expected.unique()) > expected.numel() / 2


def test_segments_get_the_latents_and_codes_of_the_reference(case: Case) -> None:
    for modality, levels in case.segments.items():
        features = case.features[modality].float()
        with torch.no_grad():
            latents = case.model.segment_latents(modality, features)  # type: ignore[arg-type]
            codes = case.model.segment_codes(modality, features).codes  # type: ignore[arg-type]
        assert codes.shape == (CLIPS, SEGMENTS, len(levels))
        for level, expected in enumerate(levels):
            torch.testing.assert_close(latents[level].double(), expected, atol=1e-4, rtol=1e-4)
            assert_codes_equal(codes[..., level], case.quantizers["embedding"][level], expected)


def test_clips_get_the_latents_and_codes_of_the_reference(case: Case) -> None:
    assert bool(case.clips) == isinstance(case.model, FCID)
    for modality, expected in case.clips.items():
        assert isinstance(case.model, FCID)
        with torch.no_grad():
            latents = case.model.clip_latents(modality, case.features[modality].float())  # type: ignore[arg-type]
        torch.testing.assert_close(latents.double(), expected, atol=1e-4, rtol=1e-4)
        codes = next(case.model.levels()).assign(latents).codes.squeeze(-1)
        assert_codes_equal(codes, case.quantizers["embedding"][0], expected)


def test_codebooks_and_their_statistics_are_those_of_the_file(case: Case) -> None:
    names = {
        "embedding": "paper_table",
        "ema_weight": "sums",
        "ema_count": "counts",
        "unactivated_count": "idle",
    }
    for level, quantizer in enumerate(case.model.levels()):
        assert isinstance(quantizer, VectorQuantizer)
        assert bool(quantizer.codebook.started)
        for theirs, ours in names.items():
            expected = case.quantizers[theirs][level].float().squeeze(-1)
            assert torch.equal(quantizer.codebook.get_buffer(ours), expected)


def test_a_second_level_is_as_warm_as_its_epochs_say(case: Case) -> None:
    """Files of H-DCID count epochs alone, from zero; the fourth is the first that trains the second level."""
    if isinstance(case.model, HDCID):
        assert case.step == int(case.model.steps) == 4 * 510
        assert case.model.is_warm()
    else:
        assert case.step == 2000


def test_the_reference_reads_empty_slots() -> None:
    """Where texts end makes a difference, so that the tests above would see a mask."""
    file = files.released("dcid-at")
    text = random_features(("text",))["text"]
    (whole,) = reference.latents(file, "text", text)
    (cut,) = reference.latents(file, "text", text[:, : WORDS[0]])
    assert not torch.allclose(whole[:, : WORDS[0]], cut, atol=1e-2)
