"""The retrieval sets: MSCOCO, Clotho, FlickrSound, MSVD and VALOR-32K."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import PurePath

from tessera.errors import TrainingError
from training.data.archives.dataset import AS_RELEASED, Clip, Dataset, Format, distinct, zipped
from training.data.archives.faults import Faults
from training.data.archives.files import Files, Part, clips_part
from training.data.archives.tables import Row, entries, read_json, read_table

_AUDIO, _VIDEO = clips_part("audio"), clips_part("video")
_PICTURES = replace(clips_part("image"), name="video")


def _or_just_zip(part: Part) -> Part:
    """Of a dataset with one modality."""
    return replace(part, patterns=(*part.patterns, "zip"))


def _open_mscoco(files: Files, faults: Faults) -> Dataset:
    path = files["list"]
    saved = read_json(path)
    annotations = saved.get("annotations") if isinstance(saved, dict) else None
    rows = entries(annotations, path, {"image_id": (int, str), "caption": str})
    clips = [Clip(row["image_id"].zfill(12), row.where, texts=(row["caption"],)) for row in rows]
    return _dataset(files, _grouped(clips))


def _open_clotho(files: Files, faults: Faults) -> Dataset:
    columns = [f"caption_{number}" for number in range(1, 6)]
    clips = []
    for path in files.all("list"):
        for row in read_table(path, ["file_name", *columns]):
            texts = tuple(_caption(row, column) for column in columns)
            clips.append(Clip(PurePath(row["file_name"]).stem, row.where, (_split(path),), texts=texts))
    return _dataset(files, distinct(clips, faults))


def _open_flickrsound(files: Files, faults: Faults) -> Dataset:
    clips = [
        Clip(_without_suffix(row["filename"]), row.where, (_split(path),))
        for path in files.all("list")
        for row in read_table(path, ["filename"])
    ]
    return _dataset(files, distinct(clips, faults))


def _open_msvd(files: Files, faults: Faults) -> Dataset:
    clips = [
        Clip(
            _without_suffix(row["video_name"]), row.where, (_split(path),), texts=(_caption(row, "caption"),)
        )
        for path in files.all("list")
        for row in read_table(path, ["video_name", "caption"])
    ]
    return _dataset(files, _grouped(clips))


def _open_valor(files: Files, faults: Faults) -> Dataset:
    """The lists `random_500` and `random_1000` name clips of `desc_test` again, which makes them further splits."""
    if not ("audio" in files or "video" in files):
        raise TrainingError("there are features of neither audio nor video; give --file video=PATH")
    clips = []
    for path in [*files.all("list"), *files.all("samples")]:
        split = path.stem.removeprefix("desc_")
        rows = entries(read_json(path), path, {"video_id": str, "desc": str})
        listed = [Clip(row["video_id"], row.where, (split,), texts=(row["desc"],)) for row in rows]
        clips += distinct(listed, faults)
    return _dataset(files, _grouped(clips))


def _dataset(files: Files, clips: Sequence[Clip]) -> Dataset:
    readers, folders = zipped(files, "audio", "video")
    return Dataset(clips, readers, folders=folders)


def _grouped(listed: Iterable[Clip]) -> list[Clip]:
    """One clip a name: what is listed again adds its split, and each caption that the clip has not."""
    clips: dict[str, Clip] = {}
    for clip in listed:
        known = clips.get(clip.id, clip)
        splits = tuple(dict.fromkeys(known.splits + clip.splits))
        clips[clip.id] = replace(known, splits=splits, texts=tuple(dict.fromkeys(known.texts + clip.texts)))
    return list(clips.values())


def _caption(row: Row, column: str) -> str:
    if not row[column]:
        raise TrainingError(f"{row.where}: '{column}' is empty")
    return row[column]


def _split(path: PurePath) -> str:
    """`clotho_captions_evaluation.csv` is the list of the split `evaluation`."""
    return path.stem.rpartition("_")[2]


def _without_suffix(name: str) -> str:
    media = (".mp4", ".avi", ".wav", ".flac", ".mp3", ".jpg", ".jpeg", ".png")
    path = PurePath(name)
    return path.stem if path.suffix.lower() in media else name


FORMATS = (
    Format(
        name="mscoco",
        says="pictures with captions",
        home="MSCOCO",
        task="retrieval",
        parts=(
            Part("list", ("val_part_1.json",)),
            _or_just_zip(replace(_VIDEO, patterns=_VIDEO.patterns + _PICTURES.patterns)),
        ),
        open=_open_mscoco,
        features={"video": AS_RELEASED["video"]},
    ),
    Format(
        name="clotho",
        says="sounds with five captions each (Clotho 2.1)",
        home="Clotho",
        task="retrieval",
        parts=(Part("list", ("clotho_captions_*.csv",), many=True), _or_just_zip(_AUDIO)),
        open=_open_clotho,
        features={"audio": AS_RELEASED["audio"]},
    ),
    Format(
        name="flickrsound",
        says="pictures with sounds",
        home="FlickrSound",
        task="retrieval",
        parts=(
            Part("list", ("Data/*.csv", "test.csv"), many=True),
            _AUDIO,
            _PICTURES,
        ),
        open=_open_flickrsound,
        features=AS_RELEASED,
    ),
    Format(
        name="msvd",
        says="films with captions",
        home="MSVD",
        task="retrieval",
        parts=(Part("list", ("msvd*.csv", "MSVD*.csv"), many=True), _or_just_zip(_VIDEO)),
        open=_open_msvd,
        features={"video": AS_RELEASED["video"]},
    ),
    Format(
        name="valor32k",
        says="films with a caption each",
        home="VALOR",
        task="retrieval",
        parts=(
            Part("list", ("desc_*.json",), many=True),
            Part("samples", ("random_*.json",), optional=True, many=True),
            replace(_AUDIO, optional=True),
            replace(_VIDEO, optional=True),
        ),
        open=_open_valor,
        features=AS_RELEASED,
    ),
)
