"""The retrieval sets in exactly the released formats, a few clips of each, with what ought to come of them."""

from __future__ import annotations

import json
from pathlib import Path

from tests.training.data.archive_files import (
    Expected,
    Released,
    audio_rows,
    video_rows,
    write_csv,
    write_zip,
)


def mscoco(root: Path) -> Released:
    """Pictures of one second, and one that has no time axis; one of them has two captions."""
    released = Released(root)
    annotations = []
    for number, seconds in ((139, 1), (285, 10)):
        rows = video_rows(seconds)
        name = f"{number:012d}"
        texts = (f"a picture of {number} things",)
        annotations.append({"image_id": number, "id": number, "caption": texts[0]})
        write_zip(root / "MSCOCO" / "feature" / "zip", name, rows[0] if seconds == 1 else rows)
        released.clips[name] = Expected(video=rows, texts=texts)
    annotations.append({"image_id": 139, "id": 9, "caption": "another caption"})
    released.clips[f"{139:012d}"].texts += ("another caption",)
    (root / "val_part_1.json").write_text(json.dumps({"info": {}, "annotations": annotations}))
    return released


def clotho(root: Path) -> Released:
    """Two lists; sounds of 17 and 30 seconds."""
    released = Released(root)
    header = ["file_name", *(f"caption_{i}" for i in range(1, 6))]
    for split, names in (("development", ["Rain, far away.wav", "b.wav"]), ("evaluation", ["c d.wav"])):
        table = [header]
        for seconds, name in zip((17, 30), names, strict=False):
            texts = tuple(f'He says "{name}" {i} times' for i in range(5))
            rows = audio_rows(seconds)
            write_zip(root / "feature" / "audio" / "zip", Path(name).stem, rows)
            released.clips[Path(name).stem] = Expected(rows, texts=texts, splits=(split,))
            table.append([name, *texts])
        write_csv(root / f"clotho_captions_{split}.csv", table)
    return released


def flickrsound(root: Path) -> Released:
    released = Released(root)
    write_csv(root / "Data" / "test.csv", [("filename",), ("11.mp4",), ("v.22",)])
    for name in ("11", "v.22"):
        clip = Expected(audio_rows(), video_rows(1), splits=("test",))
        write_zip(root / "feature" / "audio" / "zip", name, clip.audio)
        write_zip(root / "feature" / "image" / "zip", name, clip.video)
        released.clips[name] = clip
    return released


def msvd(root: Path) -> Released:
    """A film with two captions, which are not in neighbouring lines, one of them twice."""
    released = Released(root)
    listed = [("x1", "a cat eats"), ("x2", "a man\nsings"), ("x1", "an animal at food"), ("x1", "a cat eats")]
    write_csv(root / "msvd_test.csv", [("video_name", "caption"), *((f"{n}.avi", c) for n, c in listed)])
    for name, texts in (("x1", ("a cat eats", "an animal at food")), ("x2", ("a man\nsings",))):
        clip = released.clips[name] = Expected(video=video_rows(), texts=texts, splits=("test",))
        write_zip(root / "video" / "zip", name, clip.video)
    return released


def valor32k(root: Path) -> Released:
    """The small test lists name clips of the test split again."""
    released = Released(root)
    root.mkdir(parents=True)
    lists = {"desc_train": ["t1"], "desc_test": ["q1", "q2"], "random_500": ["q2"]}
    for file, names in lists.items():
        split = file.removeprefix("desc_")
        (root / f"{file}.json").write_text(
            json.dumps([{"video_id": name, "desc": f"film {name} in words"} for name in names])
        )
        for name in names:
            if name in released.clips:
                released.clips[name].splits += (split,)
                continue
            clip = Expected(audio_rows(), video_rows(), texts=(f"film {name} in words",), splits=(split,))
            write_zip(root / "audio" / "zip", name, clip.audio)
            write_zip(root / "video" / "zip", name, clip.video)
            released.clips[name] = clip
    return released
