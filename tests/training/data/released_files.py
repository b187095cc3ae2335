"""Archives in exactly the released formats, a few clips of each dataset, with what ought to come of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.training.data import captioned_files
from tests.training.data.archive_files import (
    RNG,
    Expected,
    Released,
    audio_rows,
    video_rows,
    write_csv,
    write_h5,
    write_lines,
    write_zip,
)


def vggsound_avel40k(root: Path) -> Released:
    """Splits mixed in the list; audio of 9, 10 and 12 seconds."""
    lists, features = root / "feature_extractor" / "feature_extractor", root / "vggsound40k" / "feature"
    classes = ("dog barking", "playing flute, slowly", "rain")
    listed = [
        ("rain", "aaa", "val"),
        ("dog barking", "bbb", "train"),
        ("playing flute, slowly", "-cc", "test"),
        ("dog barking", "ddd", "train"),
    ]
    prompts = {name: f"A sentence about {name} for one to read" for name in classes}
    write_csv(lists / "vggsound-avel40k.csv", [("category", "video_id", "split"), *listed])
    write_lines(lists / "VggsoundAVEL40kCategories.txt", classes)
    write_csv(lists / "vggsoundCategories2Prompts.csv", [("label", "prompt"), *prompts.items()])
    released = Released(root, classes=classes)
    for seconds, (category, name, split) in zip((10, 9, 12, 10), listed, strict=True):
        label = classes.index(category)
        flags = RNG.integers(0, 2, (1, 10)).astype("i8")
        target = np.zeros((10, 4), dtype=np.bool_)
        for second in range(10):
            target[second, label if flags[0, second] else 3] = True
        clip = Expected(audio_rows(seconds), video_rows(), label, target, (prompts[category],), (split,))
        write_zip(features / "audio" / "zip", name, clip.audio)
        write_zip(features / "video" / "zip", name, clip.video)
        write_zip(features / "label" / "zip", name, flags)
        released.clips[name] = clip
    return released


def vggsound81k(root: Path) -> Released:
    released = Released(root)
    write_csv(root / "video_name_vggsound81k_checked.csv", [("", "id"), (0, "k1.mp4"), (1, "k2.mp4")])
    for name in ("k1", "k2"):
        clip = released.clips[name] = Expected(audio_rows(), video_rows(dtype="f8"))
        write_zip(root / "audio" / "zip", name, clip.audio)
        write_zip(root / "video" / "zip", name, clip.video)
    return released


def _ave_features(root: Path, clips: int) -> list[Expected]:
    folder = root / "AVE-ECCV18-master" / "data"
    rows = [Expected(audio_rows(dtype="f8"), video_rows(dtype="f8")) for _ in range(clips)]
    audio = np.stack([row.audio for row in rows])  # type: ignore[misc]
    video = np.stack([row.video for row in rows])  # type: ignore[misc]
    write_h5(folder / "audio_feature.h5", "avadataset", audio)
    write_h5(folder / "visual_feature.h5", "avadataset", video, chunks=(2, 10, 7, 7, 512), compression="lzf")
    return rows


def _one_event(label: int, classes: int, onset: int, offset: int) -> NDArray[np.bool_]:
    target = np.zeros((10, classes + 1), dtype=np.bool_)
    for second in range(10):
        target[second, label if onset <= second < offset else classes] = True
    return target


def ave(root: Path) -> Released:
    """Six clips of 28 classes; rows of the files, in an order of each split."""
    released = Released(root, classes=tuple(f"class {i}" for i in range(28)))
    rows = _ave_features(root, 6)
    for label, row in zip((3, 27, 0, 3, 11, 5), rows, strict=True):
        row.label, row.target = label, _one_event(label, 28, label % 4, 9)
    folder = root / "AVE-ECCV18-master" / "data"
    labels = np.stack([row.target for row in rows]).astype("f8")  # type: ignore[misc]
    write_h5(folder / "labels.h5", "avadataset", labels)
    for split, order in (("train", [5, 0, 3]), ("val", [2]), ("test", [4, 1])):
        write_h5(folder / f"{split}_order.h5", "order", np.array(order))
        for index in order:
            rows[index].splits = (split,)
            released.clips[f"{index:05d}"] = rows[index]
    return released


def ave_avvp(root: Path) -> Released:
    """Three of five clips of AVE, with labels of 12 classes for each clip of AVE."""
    classes = tuple(f"event {i}" for i in range(12))
    released = Released(root, classes=classes)
    rows = _ave_features(root, 5)
    labels = np.zeros((5, 10, 13))
    for index, label in ((4, 11), (0, 2), (3, 7)):
        rows[index].label, rows[index].target = label, _one_event(label, 12, 2, 8)
        labels[index] = rows[index].target
        released.clips[f"{index:05d}"] = rows[index]
    write_h5(root / "AVE_AVVP" / "ave_avvp_labels.h5", "avadataset", labels)
    write_h5(root / "AVE_AVVP" / "ave_avvp_order.h5", "order", np.array([4, 0, 3]))
    write_lines(root / "AVE_AVVP" / "AVE_AVVP_Categories.txt", classes)
    return released


def _avvp(root: Path, subset: str, modality: str, count: int) -> Released:
    """Several events at a time; a clip of 8 seconds and one of 11."""
    classes = tuple(f"{subset} {i}" for i in range(count))
    released = Released(root, classes=classes)
    sense = "visual" if modality == "video" else "audio"
    listed: list[tuple[str, list[tuple[int, int, int]]]] = [
        ("abcdefghij0_30_40.mp4", [(0, 3, 1), (2, 10, count - 1)]),
        ("abcdefghij1_0_10.mp4", [(4, 4, 0)]),
        ("abcdefghij2_5_15.mp4", [(9, 10, 0)]),
    ]
    table: list[tuple[str, str, str, str]] = [("filename", "onset", "offset", "event_labels")]
    for seconds, (file, events) in zip((8, 10, 11), listed, strict=True):
        target = np.zeros((10, count + 1), dtype=np.bool_)
        for second in range(10):
            for onset, offset, label in events:
                target[second, label] |= onset <= second < offset
            target[second, count] = not target[second].any()
        rows = video_rows(seconds) if modality == "video" else audio_rows(seconds)
        clip = Expected(target=target, **{modality: rows})
        released.clips[file[:11]] = clip
        write_zip(root / "AVVP" / "feature" / modality / "zip", file[:11], rows)
        onsets, offsets, labels = zip(*events, strict=True)
        cells = onsets, offsets, [classes[label] for label in labels]
        table.append((file, *(",".join(map(str, values)) for values in cells)))
    lists = root / "feature_extractor" / "feature_extractor"
    write_csv(lists / f"{subset}_eval_{sense}_checked_combined.csv", table, delimiter="\t")
    write_lines(lists / f"{subset}_Categories.txt", classes)
    return released


def _shared(root: Path, own: str) -> Released:
    """Films of 7, 10 and 13 seconds, or their sounds."""
    lists = root / "feature_extractor" / "feature_extractor"
    ucf = [f"UcfName{i}" for i in range(16)]
    vgg = [f"vgg name {i}" for i in range(16)]
    write_lines(lists / "UCF101sameVGGSound.txt", ucf)
    write_lines(lists / "VGGSoundsameUCF101.txt", vgg)
    released = Released(root, classes=tuple(ucf))
    modality, names, file, home = (
        ("video", ucf, "ucf2vggsound.csv", "UCF101")
        if own == "ucf"
        else ("audio", vgg, "vggsound2ucf.csv", "vggsound40k")
    )
    table: list[tuple[str, str]] = [("category", "video_id")]
    for number, (seconds, label) in enumerate(((7, 15), (10, 0), (13, 15))):
        rows = video_rows(seconds) if own == "ucf" else audio_rows(seconds)
        released.clips[f"v_{number}"] = Expected(label=label, **{modality: rows})
        write_zip(root / home / "feature" / modality / "zip", f"v_{number}", rows)
        table.append((names[label], f"v_{number}"))
    # The archives of another dataset beside them.
    write_zip(root / "AVVP" / "feature" / modality / "zip", "v_0", audio_rows())
    write_csv(lists / file, table)
    return released


def avsbench_s4(root: Path) -> Released:
    """Clips of 3, 5 and 6 seconds."""
    released = Released(root, seconds=5, classes=("cat", "dog"))
    prompts = {"cat": "a cat is calling", "dog": "a dog is barking", "cow": "a cow stands there"}
    table = [("name", "extra", "category", "split")]
    for name, category, split, seconds in (
        ("m1_0", "dog", "train", 3),
        ("m2_1", "cat", "test", 5),
        ("m3_2", "dog", "train", 6),
    ):
        table.append((name, "x", category, split))
        clip = Expected(
            audio_rows(seconds),
            label=released.classes.index(category),
            texts=(prompts[category],),
            splits=(split,),
        )
        write_zip(root / "AVSBench" / "feature" / "audio" / split / "zip" / category, name, clip.audio)
        released.clips[name] = clip
    write_csv(root / "AVSBench_data" / "s4_meta_data.csv", table)
    write_csv(root / "AVSBench_data" / "AVSBenchCategories2Prompts.csv", [("label", "p"), *prompts.items()])
    return released


DATASETS: dict[str, Callable[[Path], Released]] = {
    "vggsound-avel40k": vggsound_avel40k,
    "vggsound81k": vggsound81k,
    "ave": ave,
    "ave-avvp": ave_avvp,
    "avvp-video": lambda root: _avvp(root, "AVVP", "video", 25),
    "avvp-audio": lambda root: _avvp(root, "AVVP", "audio", 25),
    "ave-avvp-video": lambda root: _avvp(root, "AVE_AVVP", "video", 12),
    "ave-avvp-audio": lambda root: _avvp(root, "AVE_AVVP", "audio", 12),
    "ucf": lambda root: _shared(root, "ucf"),
    "vgg": lambda root: _shared(root, "vgg"),
    "mscoco": captioned_files.mscoco,
    "clotho": captioned_files.clotho,
    "flickrsound": captioned_files.flickrsound,
    "msvd": captioned_files.msvd,
    "valor32k": captioned_files.valor32k,
    "avsbench-s4": avsbench_s4,
}
