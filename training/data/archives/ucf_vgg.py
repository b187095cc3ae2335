"""The 16 classes that UCF101 and VGGSound share: films of the one, sounds of the other."""

from __future__ import annotations

from functools import partial

from tessera.errors import TrainingError
from training.data.archives.dataset import Clip, Dataset, Format, Known, distinct, zipped
from training.data.archives.faults import Faults
from training.data.archives.files import Files, Part
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


FORMATS = (
    Format(
        name="ucf",
        says="2,003 films of UCF101, of the 16 classes shared with VGGSound",
        home="UCF101",
        task="classification",
        parts=(
            Part("list", ("ucf2vggsound.csv",)),
            _UCF_CLASSES,
            _VGG_CLASSES,
            Part("video", ("UCF101/feature/video/zip", "feature/video/zip", "video/zip"), folder=True),
        ),
        open=partial(_open, "video", "ucf-classes"),
        features={"video": "VGG19 pool5, as released"},
        known=Known((2_003,), classes=16),
    ),
    Format(
        name="vgg",
        says="4,813 sounds of VGGSound, of the 16 classes shared with UCF101",
        home="vggsound40k",
        task="classification",
        parts=(
            Part("list", ("vggsound2ucf.csv",)),
            _UCF_CLASSES,
            _VGG_CLASSES,
            Part("audio", ("vggsound40k/feature/audio/zip", "feature/audio/zip", "audio/zip"), folder=True),
        ),
        open=partial(_open, "audio", "vgg-classes"),
        features={"audio": "VGGish, as released"},
        known=Known((4_813,), classes=16),
    ),
)
