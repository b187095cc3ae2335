"""Data whose answers are known: codes that say the class, and stores of the datasets that hold them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tessera.windows import Modality
from training.data.features import FeatureSet
from training.data.store import FeatureStore
from training.data.store_manifest import StoreFacts
from training.data.store_writer import StoreWriter
from training.evaluation.controls import TableCoder, View

CLASSES, SECONDS = 4, 10


def speaking_coder(classes: int = CLASSES + 1) -> TableCoder:
    """A coder for which feature i of `classes` is code i, in every modality."""
    modalities: tuple[Modality, ...] = ("audio", "video", "text")
    view = View(np.zeros(classes), np.eye(classes))
    return TableCoder(dict.fromkeys(modalities, view), dict.fromkeys(modalities, np.eye(classes)))


def one_hot(classes: NDArray[np.int64], width: int = CLASSES + 1) -> NDArray[np.float32]:
    """The features of which `speaking_coder` makes these codes."""
    return np.eye(width, dtype=np.float32)[classes]


def every_second(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The class of a clip in each of its seconds, [N, T]."""
    return np.repeat(labels[:, None], SECONDS, axis=1)


def speaking_clips(clips: int = 60, seed: int = 0, shuffled: Modality | None = None) -> FeatureSet:
    """Clips whose features say their class in every second; those of `shuffled` are of other clips."""
    rng = np.random.default_rng(seed)
    labels = np.arange(clips) % CLASSES
    said = {m: rng.permutation(labels) if m == shuffled else labels for m in ("audio", "video", "text")}
    seconds = {m: one_hot(every_second(one)) for m, one in said.items()}
    return FeatureSet(
        seconds["audio"], seconds["video"][:, :, None, None], seconds["text"], np.full(clips, SECONDS), labels
    )


def events(clips: int, seed: int) -> NDArray[np.int64]:
    """Classes of seconds [N, T], a stretch of one class in background (class `CLASSES`)."""
    rng = np.random.default_rng(seed)
    seconds = np.full((clips, SECONDS), CLASSES)
    for row, label in zip(seconds, rng.integers(0, CLASSES, clips), strict=True):
        start = rng.integers(0, 6)
        row[start : start + 4] = label
    return seconds


def write_store(
    data: Path,
    name: str,
    seconds: NDArray[np.int64],
    *,
    ids: list[str] | None = None,
    splits: dict[str, NDArray[np.int64]] | None = None,
    texts: tuple[NDArray[np.int64], list[int]] | None = None,
    labels: NDArray[np.int64] | None = None,
    segments: bool = False,
    words: int = SECONDS,
) -> FeatureStore:
    """A store whose features say the classes `seconds` [N, T]; `texts` are the class of each and its clip."""
    features = one_hot(seconds)
    arrays: dict[str, NDArray[Any]] = {"audio": features, "video": features[:, :, None, None]}
    if segments:
        arrays["segments"] = features.astype(bool)
    facts = StoreFacts(
        name=name, classes=tuple(f"class {i}" for i in range(CLASSES)), features={"audio": "one in five"}
    )
    with StoreWriter(data / name, facts) as writer:
        chosen = None if labels is None else labels.tolist()
        writer.append(ids or [f"{name}-{i}" for i in range(len(seconds))], chosen, **arrays)
        if texts is not None:
            said, items = texts
            text = np.repeat(one_hot(said)[:, None], SECONDS, axis=1)
            text[:, words:] = 0
            writer.append_text(text, np.full(len(said), words), items)
        for split, rows in (splits or {}).items():
            writer.add_split(split, rows)
    return FeatureStore.load(data / name)


def write_ave(data: Path, clips: int = 80, seed: int = 0) -> FeatureStore:
    """`ave`: a class a clip, a training split and a test split."""
    labels = np.random.default_rng(seed).permutation(np.arange(clips) % CLASSES)
    cut = clips * 3 // 4
    splits = {"train": np.arange(cut), "val": np.arange(cut, cut + 4), "test": np.arange(cut + 4, clips)}
    return write_store(data, "ave", every_second(labels), labels=labels, splits=splits)


def write_every_store(data: Path) -> None:
    """All datasets that a task reads, small."""
    write_ave(data)
    for number, name in enumerate(("avvp-audio", "avvp-video", "ave-avvp-audio", "ave-avvp-video")):
        ids = [f"clip-{i}" for i in range(60)]
        write_store(data, name, events(60, number), ids=ids, segments=True)
    write_store(data, "ave-avvp", events(60, 9), segments=True, ids=[f"clip-{i}" for i in range(40, 100)])
    for number, name in enumerate(("ucf", "vgg")):
        labels = np.random.default_rng(number).integers(0, CLASSES, 60)
        write_store(data, name, every_second(labels), labels=labels)
    write_retrieval(data)


def write_retrieval(data: Path) -> None:
    """A clip of each class in `clotho` with five captions, `mscoco` with one, and `flickrsound` without."""
    labels = np.arange(CLASSES)
    five = (np.repeat(labels, 5), np.repeat(labels, 5).tolist())
    write_store(data, "clotho", every_second(labels), labels=labels, texts=five)
    write_store(data, "mscoco", every_second(labels), labels=labels, texts=(labels, labels.tolist()))
    write_store(data, "flickrsound", every_second(labels), labels=labels)
