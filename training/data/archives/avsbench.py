"""AVSBench-S4: the sound features and the list of its clips of five seconds; pictures and masks stay where they are."""

from __future__ import annotations

from tessera.errors import TrainingError
from training.data.archives.dataset import AS_RELEASED, Clip, Dataset, Format, Reader, distinct
from training.data.archives.faults import Faults
from training.data.archives.files import Files, Part
from training.data.archives.tables import Classes, read_prompts, read_table
from training.data.archives.zip_pickle import ZipFolder


def _open(files: Files, faults: Faults) -> Dataset:
    """The name of a clip stands in the first column, its class in the third, features in `<split>/zip/<class>/`."""
    rows = read_table(files["list"], ["split"])
    if len(rows[0].cells) < 3:
        raise TrainingError(f"{files['list'].name} has {len(rows[0].cells)} columns, expected at least three")
    classes = Classes(tuple(sorted({row.cells[2] for row in rows})), files["list"].name)
    prompts = read_prompts(files["prompts"], classes.names) if "prompts" in files else {}
    folders = {
        f"audio/{s}": ZipFolder(files["audio"] / s / "zip") for s in sorted({r["split"] for r in rows})
    }
    clips = []
    for row in rows:
        name, category = row.cells[0], row.cells[2]
        texts = (prompts[category],) if prompts else ()
        label = classes.number(category)
        clips.append(Clip(name, row.where, (row["split"],), label, texts=texts))
    readers = {"audio": _reader(folders, classes)}
    return Dataset(distinct(clips, faults), readers, classes.names, seconds=5, folders=folders)


def _reader(folders: dict[str, ZipFolder], classes: Classes) -> Reader:
    return lambda clip: folders[f"audio/{clip.splits[0]}"].read(f"{classes.names[clip.label]}/{clip.id}")


FORMATS = (
    Format(
        name="avsbench-s4",
        says="sounds of AVSBench-S4, five seconds each; features and list only",
        home="AVSBench",
        task="features",
        parts=(
            Part("list", ("s4_meta_data.csv",)),
            Part("prompts", ("AVSBenchCategories2Prompts.csv",), optional=True),
            Part("audio", ("feature/audio", "audio"), folder=True),
        ),
        open=_open,
        features={"audio": AS_RELEASED["audio"]},
    ),
)
