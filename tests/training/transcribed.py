"""The weights and random choices of a small model of ours, carried over into the transcription of the bench."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from training.bench.transcription.programs import PROGRAMS, Draws, Program
from training.config import Recipe
from training.models.dcid import DCID
from training.models.disentangling import Disentangling
from training.models.fcid import FCID
from training.models.task import TaskModule
from training.quantizers.ema import EMACodebook
from training.randomness import begin_step

Pairs = Iterator[tuple[nn.Module, nn.Module]]


def transcribed(ours: DCID | FCID) -> Program:
    """The program of the same method with the same weights, in float64."""
    program = PROGRAMS[ours.recipe.method](ours.recipe)
    program.prepare()
    pairs = _dcid(ours, program) if isinstance(ours, DCID) else _fcid(ours, program)
    copied = 0
    for source, target in pairs:
        for name, parameter in zip(source.parameters(), target.parameters(), strict=False):
            parameter.data.copy_(name.data)
            copied += parameter.numel()
    assert copied == sum(parameter.numel() for parameter in ours.parameters())
    _copy_codebook(ours, program)
    return program


def draws(recipe: Recipe, step: int) -> Draws:
    """What our step `step` draws for its losses."""
    generator = begin_step(recipe.training.seed, step)
    batch, fcid = recipe.training.batch_size, recipe.method == "fcid"
    names = ["audio", "video"] if fcid else ["audio", "video", "text"]
    permutations = {name: torch.randperm(batch, generator=generator) for name in names}
    second = int(torch.randint(1, 9, (), generator=generator))
    if fcid:
        ours = torch.randperm(2 * batch, generator=generator)
        # Clip after clip there, modality after modality here.
        place = torch.arange(2 * batch).view(2, batch).T.flatten()
        permutations["media"] = torch.empty_like(ours).scatter_(0, place, place[ours])
        permutations["text"] = torch.randperm(batch, generator=generator)
    return Draws(second, permutations)


def _copy_codebook(ours: TaskModule, program: Program) -> None:  # type: ignore[type-arg]
    codebook = ours.quantizers[0].codebook
    assert isinstance(codebook, EMACodebook)
    quantizer = program.encoder["quantizer"]
    quantizer.embedding = codebook.paper_table.clone()
    quantizer.weight, quantizer.count = codebook.sums.clone(), codebook.counts.clone()
    quantizer.unused = codebook.idle.clone()


def _dcid(ours: DCID, program: Program) -> Pairs:
    assert ours.text_lstm is not None
    yield ours.text_lstm.lstm, program.text_lstm
    yield from _level(ours.level, program)


def _fcid(ours: FCID, program: Program) -> Pairs:
    assert ours.fine is not None
    yield from _level(ours.fine, program)
    encoder, coarse = program.encoder, ours.coarse
    yield coarse.temporal["text"], encoder["temporal_text"]
    for branch in ("media", "text"):
        yield coarse.projector[branch], encoder[f"projector_{branch}"]
        yield coarse.general[branch], encoder[f"general_{branch}"]
        yield coarse.specific[branch], encoder[f"coarse_specific_{branch}"]
        yield coarse.club[branch], program.clubs[branch]
    for modality, decoder in coarse.decoders.items():
        yield decoder, program.decoder[f"coarse_{modality}"]


def _level(level: Disentangling, program: Program) -> Pairs:
    """The dead spatial attention of the program's pooling comes after what ours has."""
    assert level.pooling is not None
    yield level.pooling, program.encoder["pooling"]
    for modality in level.temporal:
        yield level.temporal[modality], program.encoder[f"temporal_{modality}"]
        yield level.specific[modality], program.encoder[f"specific_{modality}"]
        yield level.decoders[modality], program.decoder[modality]
        yield level.predictors[modality].context, program.contrast.context[modality]
        yield level.predictors[modality].predict, program.contrast.predict[modality]
        yield level.club[modality], program.clubs[modality]
