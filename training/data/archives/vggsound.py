"""VGGSound-AVEL with 40 thousand clips, on which the papers' models were trained, and VGGSound with 81 thousand."""

from __future__ import annotations

from dataclasses import replace

from training.data.archives.dataset import (
    AS_RELEASED,
    Clip,
    Dataset,
    Format,
    Known,
    by_name,
    distinct,
    zipped,
)
from training.data.archives.faults import BadClip, Faults
from training.data.archives.files import Files, Part, clips_part
from training.data.archives.tables import read_classes, read_prompts, read_table
from training.data.archives.zip_pickle import ZipFolder

CLASSES = Part("classes", ("VggsoundAVEL40kCategories.txt",))
PROMPTS = Part("prompts", ("vggsoundCategories2Prompts.csv",))
AUDIO, VIDEO = clips_part("audio"), clips_part("video")


def _open_40k(files: Files, faults: Faults) -> Dataset:
    classes = read_classes(files["classes"])
    prompts = read_prompts(files["prompts"], classes.names)
    clips = []
    for row in read_table(files["list"], ["category", "video_id", "split"]):
        with faults.tolerated(row.where):
            label = classes.number(row["category"])
            text = (prompts[row["category"]],)
            clips.append(Clip(row["video_id"], row.where, (row["split"],), label, texts=text))
    readers, folders = zipped(files, "audio", "video")
    flags = None
    if "labels" in files:
        folders["labels"] = ZipFolder(files["labels"])
        flags = by_name(folders["labels"])
    return Dataset(distinct(clips, faults), readers, classes.names, flags, folders=folders)


def _open_81k(files: Files, faults: Faults) -> Dataset:
    clips = []
    for row in read_table(files["list"], ["id"]):
        with faults.tolerated(row.where):
            if not row["id"].endswith(".mp4"):
                raise BadClip(f"'{row['id']}' does not end in .mp4")
            clips.append(Clip(row["id"].removesuffix(".mp4"), row.where))
    readers, folders = zipped(files, "audio", "video")
    return Dataset(distinct(clips, faults), readers, folders=folders)


FORMATS = (
    Format(
        name="vggsound-avel40k",
        says="40,801 clips of 141 classes with a sentence each",
        home="vggsound40k",
        task="pretraining",
        parts=(
            Part("list", ("vggsound-avel40k.csv",)),
            CLASSES,
            PROMPTS,
            AUDIO,
            VIDEO,
            replace(clips_part("label"), name="labels", optional=True),
        ),
        open=_open_40k,
        features=AS_RELEASED,
        known=Known(
            clips=(40_801,),
            splits={"train": 24_515, "val": 8_171, "test": 8_115},
            classes=141,
            halved=range(18_000, 23_000),
        ),
    ),
    Format(
        name="vggsound81k",
        says="clips without classes or texts",
        home="vggsound81k",
        task="pretraining",
        parts=(Part("list", ("video_name_vggsound81k_checked.csv",)), AUDIO, VIDEO),
        open=_open_81k,
        features=AS_RELEASED,
    ),
)
