"""AVE, and its part with the 12 classes that AVVP has too: h5 files whose rows are clips."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tessera.errors import TrainingError
from training.data.archives.dataset import Clip, Dataset, Format, Known, Reader
from training.data.archives.faults import BadClip, Faults
from training.data.archives.files import Files, Part
from training.data.archives.fitting import ROW_SHAPES
from training.data.archives.h5 import H5Array
from training.data.archives.tables import read_classes
from training.data.archives.targets import clip_label

KEY, ORDER_KEY = "avadataset", "order"
SPLITS = ("train", "val", "test")
SECONDS = 10
FEATURES = {"audio": "VGGish, as released with AVE", "video": "VGG19 pool5 (Keras), as released with AVE"}
_PARTS = (Part("audio", ("audio_feature.h5",)), Part("video", ("visual_feature.h5",)))


def _open_ave(files: Files, faults: Faults) -> Dataset:
    """Classes have no names in these files, so their numbers stand for them. A clip is named by its row."""
    audio, video = _features(files)
    labels = H5Array.open(files["labels"], KEY, (SECONDS, None))
    if len(labels) != len(audio):
        raise TrainingError(f"'{files['labels']}' has {len(labels)} rows for {len(audio)} clips")
    targets = labels.all()
    clips = []
    seen: dict[int, str] = {}
    for split in SPLITS:
        path = files[split]
        # In rising order a block of the h5 files is unpacked once.
        for row in np.sort(_order(path, len(audio))).tolist():
            where = f"row {row}, split {split}"
            with faults.tolerated(where):
                if row in seen:
                    raise BadClip(f"it is in split {seen[row]} already")
                seen[row] = split
                clips.append(_clip(row, where, targets[row], (split,)))
    classes = tuple(f"class {number}" for number in range(targets.shape[-1] - 1))
    return Dataset(clips, _readers(audio, video), classes)


def _open_ave_avvp(files: Files, faults: Faults) -> Dataset:
    """`ave_avvp_order.h5` names the rows of AVE; the labels are one for each of these, or one for each clip of AVE."""
    audio, video = _features(files)
    classes = read_classes(files["classes"]).names
    order = _order(files["order"], len(audio))
    labels = H5Array.open(files["labels"], KEY, (SECONDS, len(classes) + 1))
    if len(labels) not in (len(order), len(audio)):
        raise TrainingError(
            f"'{files['labels']}' has {len(labels)} rows, expected one for each of the {len(order)} clips of "
            f"'{files['order'].name}' or of the {len(audio)} of AVE"
        )
    targets = labels.all()
    places = np.arange(len(order)) if len(labels) == len(order) else order
    clips = []
    seen: set[int] = set()
    for position in np.argsort(order, kind="stable").tolist():
        row, where = int(order[position]), f"row {order[position]}"
        with faults.tolerated(where):
            if row in seen:
                raise BadClip(f"'{files['order'].name}' names it twice")
            seen.add(row)
            clips.append(_clip(row, where, targets[places[position]], ()))
    return Dataset(clips, _readers(audio, video), classes)


def _features(files: Files) -> tuple[H5Array, H5Array]:
    audio = H5Array.open(files["audio"], KEY, (SECONDS, *ROW_SHAPES["audio"]))
    video = H5Array.open(files["video"], KEY, (SECONDS, *ROW_SHAPES["video"]))
    if len(audio) != len(video):
        raise TrainingError(f"'{files['video']}' has {len(video)} rows for {len(audio)} clips of audio")
    return audio, video


def _readers(audio: H5Array, video: H5Array) -> dict[str, Reader]:
    def rows_of(array: H5Array) -> Callable[[Clip], NDArray[Any]]:
        return lambda clip: array.row(int(clip.id))

    return {"audio": rows_of(audio), "video": rows_of(video)}


def _order(path: Path, clips: int) -> NDArray[np.int64]:
    order = H5Array.open(path, ORDER_KEY, ()).all()
    if order.dtype.kind not in "iu":
        raise TrainingError(f"'{path}' holds no integers")
    outside = np.flatnonzero((order < 0) | (order >= clips))
    if len(outside):
        raise TrainingError(
            f"'{path}': entry {outside[0]} names row {order[outside[0]]}, there are {clips} rows"
        )
    return order.astype(np.int64)


def _clip(row: int, where: str, values: NDArray[Any], splits: tuple[str, ...]) -> Clip:
    target = values.astype(np.bool_)
    if not np.array_equal(target, values) or not (target.sum(axis=1) == 1).all():
        raise BadClip("its labels are not one class, or background, in each second")
    return Clip(f"{row:05d}", where, splits, clip_label(target), target)


FORMATS = (
    Format(
        name="ave",
        says="4,143 clips of 28 classes, a class a clip",
        home="AVE-ECCV18-master",
        task="classification",
        parts=(
            *_PARTS,
            Part("labels", ("labels.h5",)),
            *(Part(split, (f"{split}_order.h5",)) for split in SPLITS),
        ),
        open=_open_ave,
        features=FEATURES,
        known=Known((4_143,), {"train": 3_339, "val": 402, "test": 402}, classes=28),
    ),
    Format(
        name="ave-avvp",
        says="the clips of AVE that are of one of 12 classes of AVVP",
        home="AVE-ECCV18-master",
        task="events",
        parts=(
            *_PARTS,
            Part("labels", ("ave_avvp_labels.h5",)),
            Part("order", ("ave_avvp_order.h5",)),
            Part("classes", ("AVE_AVVP_Categories.txt",)),
        ),
        open=_open_ave_avvp,
        features=FEATURES,
        known=Known(classes=12),
    ),
)
