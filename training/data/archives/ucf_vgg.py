"""The 16 classes that UCF101 and VGGSound share: films of the one, sounds of the other."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Literal

from tessera.errors import TrainingError
from training.data.archives.dataset import AS_RELEASED, Clip, Dataset, Format, Known, distinct, zipped
from training.data.archives.faults import Faults
from training.data.archives.files import Files, Part, clips_part
from training.data.archives.tables import read_classes, read_table

_UCF_CLASSES = Part("ucf-classes", ("UCF101sameVGGSound.txt",))
_VGG_CLASSES = Part("vgg-classes", ("VGGSoundsameUCF101.txt",))


def _open(modality: str, own: str, files: Files, faults: Faults) -> Dataset:
    """The two lists of classes are aligned by line; both stores name the classes as UCF101 does."""
    ucf, vgg = read_classes(files["ucf-classes"]), read_classes(files["vgg-classes"])
    if len(ucf.names) != len(vgg.names):
        raise TrainingError(
            f"{ucf.source} has {len(ucf.names)} lines, {vgg.source} {len(vgg.names)}; they belong together"
        )
    classes = ucf if own == "ucf-classes" else vgg
    clips = []
    for row in read_table(files["list"], ["category", "video_id"]):
        with faults.tolerated(row.where):
            clips.append(Clip(row["video_id"], row.where, label=classes.number(row["category"])))
    readers, folders = zipped(files, modality)
    return Dataset(distinct(clips, faults), readers, ucf.names, folders=folders)


def _format(
    name: str, modality: Literal["audio", "video"], home: str, clips: int, says: str, listed: str
) -> Format:
    part = clips_part(modality)
    # Other datasets under the same root have folders of this name too.
    own = replace(part, patterns=(f"{home}/{part.patterns[0]}", *part.patterns))
    return Format(
        name=name,
        says=f"{clips:,} {says}",
        home=home,
        task="classification",
        parts=(Part("list", (listed,)), _UCF_CLASSES, _VGG_CLASSES, own),
        open=partial(_open, modality, f"{name}-classes"),
        features={modality: AS_RELEASED[modality]},
        known=Known((clips,), classes=16),
    )


FORMATS = (
    _format(
        name="ucf",
        modality="video",
        home="UCF101",
        clips=2_003,
        says="films of UCF101, of the 16 classes shared with VGGSound",
        listed="ucf2vggsound.csv",
    ),
    _format(
        name="vgg",
        modality="audio",
        home="vggsound40k",
        clips=4_813,
        says="sounds of VGGSound, of the 16 classes shared with UCF101",
        listed="vggsound2ucf.csv",
    ),
)
