"""AVVP (LLP): clips with events in seconds, several at a time, listed apart for what is seen and what is heard."""

from __future__ import annotations

from functools import partial
from typing import Literal

from training.data.archives.dataset import AS_RELEASED, Clip, Dataset, Format, Known, distinct, zipped
from training.data.archives.faults import BadClip, Faults
from training.data.archives.files import Files, Part, clips_part
from training.data.archives.tables import Classes, Row, read_classes, read_table
from training.data.archives.targets import Event, from_events

_COLUMNS = ("filename", "onset", "offset", "event_labels")
_ID_LENGTH = 11


def _open(modality: str, files: Files, faults: Faults) -> Dataset:
    """A clip is named by the first 11 characters of its file; several classes at a time leave it without a label."""
    classes = read_classes(files["classes"])
    clips = []
    for row in read_table(files["list"], _COLUMNS, delimiter="\t"):
        with faults.tolerated(row.where):
            target = from_events(_events(row, classes), len(classes.names))
            clips.append(Clip(_name(row), row.where, target=target))
    readers, folders = zipped(files, modality)
    return Dataset(distinct(clips, faults), readers, classes.names, folders=folders)


def _name(row: Row) -> str:
    name = row["filename"][:_ID_LENGTH]
    if len(name) < _ID_LENGTH:
        raise BadClip(f"'{name}' is shorter than the {_ID_LENGTH} characters of a clip's name")
    return name


def _events(row: Row, classes: Classes) -> list[Event]:
    onsets, offsets, labels = (
        [cell.strip() for cell in row[column].split(",")] for column in ("onset", "offset", "event_labels")
    )
    if not len(onsets) == len(offsets) == len(labels):
        raise BadClip(f"{len(onsets)} onsets, {len(offsets)} offsets and {len(labels)} classes")
    return [
        (_second(onset), _second(offset), classes.number(label))
        for onset, offset, label in zip(onsets, offsets, labels, strict=True)
    ]


def _second(text: str) -> int:
    try:
        second = float(text)
        if second == int(second):
            return int(second)
    except (ValueError, OverflowError):
        pass
    raise BadClip(f"'{text}' is no whole second")


def _format(
    subset: str, modality: Literal["audio", "video"], says: str, classes: int, clips: tuple[int, ...]
) -> Format:
    prefix = "AVE_AVVP" if subset == "ave-avvp" else "AVVP"
    sense = "visual" if modality == "video" else "audio"
    return Format(
        name=f"{subset}-{modality}",
        says=says,
        home="AVVP",
        task="events",
        parts=(
            Part("list", (f"{prefix}_eval_{sense}_checked_combined.csv",)),
            Part("classes", (f"{prefix}_Categories.txt",)),
            clips_part(modality),
        ),
        open=partial(_open, modality),
        features={modality: AS_RELEASED[modality]},
        known=Known(clips, classes=classes),
    )


# Of the two lists with 12 classes the sizes are known, but not which is whose.
_EITHER = (1_085, 1_032)

FORMATS = (
    _format("avvp", "video", "what is seen in clips of AVVP, 25 classes", 25, (1_661,)),
    _format("avvp", "audio", "what is heard in clips of AVVP, 25 classes", 25, (1_846,)),
    _format("ave-avvp", "video", "what is seen in clips of AVVP, 12 classes of AVE", 12, _EITHER),
    _format("ave-avvp", "audio", "what is heard in clips of AVVP, 12 classes of AVE", 12, _EITHER),
)
