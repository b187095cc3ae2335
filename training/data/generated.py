"""The generated world as features: clips -> backbones -> feature store, on all cores, cached by its settings."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any, Self

import av
import numpy as np
import torch
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass as checked
from rich.progress import track
from tokenizers import Tokenizer as PieceTokenizer
from tokenizers import models, normalizers, pre_tokenizers, trainers

from tessera.bundle import TimeGrid
from tessera.limits import Limits
from tessera.picture import scale
from tessera.text import WordSlots
from training.backbones.catalogue import text_backbone
from training.backbones.classic import ClassicAudio, ClassicText, ClassicVideo
from training.data.features import FeatureSet
from training.data.settings import parsed
from training.data.world import EVENTS, Clip, Split, World
from training.workers import start_worker

_CAPTIONS_FOR_VOCABULARY = 6_000
_FILM_SIZES = ((112, 112), (120, 160), (180, 240), (240, 320))
_FORMAT = 2  # raise it when clips or backbones change, so that no stale cache is read


@checked(frozen=True, config=ConfigDict(extra="forbid"))
class GeneratedData:
    """How many clips of which world."""

    world: World
    clips: dict[Split, int]

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self:
        """From the `data` part of a recipe: `world`, the fields of `World`, and `clips`, the size of each split.

        Raises:
            TrainingError: one is missing, unknown or of the wrong type.
        """
        return parsed(cls, settings)

    @property
    def sentence(self) -> str:
        """What the data is, for the model card."""
        world = self.world
        return (
            f"Trained on {self.clips['train']} clips of {world.seconds} s of a generated world (seed {world.seed}) of "
            f"{len(EVENTS)} named events, each with a synthesised sound, a drawn moving picture and captions, under "
            f"nuisance of strength {world.nuisance_strength:g} and correlation {world.nuisance_correlation:g} "
            f"between the modalities: {', '.join(event.replace('_', ' ') for event in EVENTS)}."
        )

    def tokenizer_json(self) -> str:
        """A WordPiece tokeniser trained on captions of the training split, with every letter as a fallback."""
        captions = (self.world.clip("train", i).caption for i in range(_CAPTIONS_FOR_VOCABULARY))
        return train_pieces(list(captions)).to_str()

    def features(self, split: Split, tokenizer_json: str, cache_dir: Path) -> FeatureSet:
        """Features of `split`, built once and then read from `cache_dir`."""
        folder = cache_dir / f"{split}-{self._digest(split, tokenizer_json)}"
        if not folder.exists():
            building = folder.with_suffix(f".{os.getpid()}")
            _build(self.world, split, self.clips[split], tokenizer_json).save(building)
            try:
                building.rename(folder)
            except OSError:
                # Another process was faster; its features are the same.
                shutil.rmtree(building)
        return FeatureSet.load(folder)

    def _digest(self, split: Split, tokenizer_json: str) -> str:
        settings = [_FORMAT, asdict(self.world), self.clips[split], tokenizer_json]
        return hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]


def train_pieces(captions: list[str], size: int = 2_000) -> PieceTokenizer:
    """A lower-casing WordPiece tokeniser over `captions`; every printable ASCII character has a piece."""
    tokenizer = PieceTokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    letters = [chr(code) for code in range(33, 127)]
    trainer = trainers.WordPieceTrainer(
        vocab_size=size,
        special_tokens=["[PAD]", "[UNK]", *(f"##{letter}" for letter in letters)],
        initial_alphabet=letters,
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    return tokenizer


def _build(world: World, split: Split, count: int, tokenizer_json: str) -> FeatureSet:
    # Fresh interpreters: forking a process that has run torch can hang it.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), context, start_worker) as pool:
        chunks = [(world, split, indices) for indices in np.array_split(np.arange(count), -(-count // 16))]
        media = list(track(pool.map(_media, chunks), f"features: {split}", total=len(chunks)))
    texts = [_text(tokenizer_json, world.clip(split, i).caption) for i in range(count)]
    words = np.array([len(text) for text in texts])
    padded = np.zeros((count, TimeGrid().window_segments, texts[0].shape[1]), np.float32)
    for row, text in zip(padded, texts, strict=True):
        row[: len(text)] = text
    audio, video = (np.concatenate(parts) for parts in zip(*media, strict=True))
    labels = np.array([world.clip(split, i).label for i in range(count)])
    return FeatureSet(audio, video.astype(np.float16), padded, words, labels)


def _media(
    chunk: tuple[World, Split, NDArray[np.int64]],
) -> tuple[NDArray[np.float32], NDArray[np.float16]]:
    world, split, indices = chunk
    audio, video = zip(*(_clip_features(world, split, int(i)) for i in indices), strict=True)
    return np.concatenate(audio), np.concatenate(video)


def _clip_features(world: World, split: Split, index: int) -> tuple[NDArray[np.float32], NDArray[np.float16]]:
    clip = world.clip(split, index)
    with torch.no_grad():
        audio = _audio_backbone()(torch.from_numpy(clip.waveform())[None])
        video = _video_backbone()(torch.from_numpy(filmed(clip, _film_size(split, index)))[None])
    return audio.numpy(), video.numpy().astype(np.float16)


def _film_size(split: Split, index: int) -> tuple[int, int]:
    """Training sees pictures of several sizes, as users send them; the held-out clips have that of our own files."""
    return _FILM_SIZES[index % len(_FILM_SIZES)] if split == "train" else _FILM_SIZES[-1]


def filmed(clip: Clip, size: tuple[int, int]) -> NDArray[np.uint8]:
    """The picture of `clip` at height x width `size`, scaled to the backbone's as a decoded frame is."""
    spec, scaler = ClassicVideo.spec, VideoReformatter()
    frames = clip.frames(spec.frames_per_segment, *size)
    pictures = [
        scale(scaler, av.VideoFrame.from_ndarray(frame, format="rgb24"), spec.width, spec.height)
        for frame in frames.reshape(-1, *size, 3)
    ]
    return np.stack(pictures).reshape(*frames.shape[:2], spec.height, spec.width, 3)


def _text(tokenizer_json: str, caption: str) -> NDArray[np.float32]:
    """The first window of a caption, [words, Dt]."""
    windows, _ = _word_slots(tokenizer_json).cut(caption, Limits(), "none")
    inputs = {name: torch.from_numpy(array)[None] for name, array in windows[0].inputs.items()}
    features: NDArray[np.float32] = _text_backbone(tokenizer_json)(**inputs)[0].numpy()
    return features


@cache
def _audio_backbone() -> ClassicAudio:
    return ClassicAudio().eval()


@cache
def _video_backbone() -> ClassicVideo:
    return ClassicVideo().eval()


@cache
def _text_backbone(tokenizer_json: str) -> ClassicText:
    return text_backbone(tokenizer_json).eval()


@cache
def _word_slots(tokenizer_json: str) -> WordSlots:
    return WordSlots(tokenizer_json.encode(), TimeGrid())
