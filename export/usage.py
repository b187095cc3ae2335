"""Which codes a bundle gives to clips that it did not learn from: what a server compares the codes it gives with."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from tessera.bundle import MANIFEST, Bundle
from tessera.codes import Codes
from tessera.tokenizer import Tokenizer
from tessera.windows import Modality
from training.data.clips import write_mp4, write_wav
from training.data.generated import GeneratedData
from training.data.world import Clip

Usage = dict[Modality, list[NDArray[np.int64]]]
"""How often each code was given, [size] for each level."""

_FRAMES_PER_SECOND = 4


def add_usage(folder: Path, clips: int, console: Console) -> None:
    """Count the codes of `clips` clips of the world that the bundle in `folder` learnt from, for its manifest.

    The clips lie behind every split, and go through the bundle as files, as those of users do. A bundle that learnt
    from anything else stays as it is.
    """
    bundle = Bundle.load(folder)
    data = bundle.manifest.provenance.recipe.get("data")
    if not isinstance(data, Mapping) or "world" not in data:
        return
    console.print(f"counting the codes of {clips} clips ...")
    state_usage(folder, _counted(Tokenizer(bundle), GeneratedData.of(data), clips))


def state_usage(folder: Path, usage: Usage) -> None:
    """Write `usage` into the manifest of the bundle in `folder`, which is another revision then.

    Raises:
        BundleError: it is not of the codebooks of this bundle.
    """
    path = folder / MANIFEST
    document: dict[str, Any] = json.loads(path.read_bytes())
    document["usage"] = {name: [level.tolist() for level in levels] for name, levels in usage.items()}
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False))
    Bundle.load(folder)


def _counted(tokenizer: Tokenizer, data: GeneratedData, clips: int) -> Usage:
    sizes = tokenizer.manifest.codebook_sizes
    usage: Usage = {m: [np.zeros(size, np.int64) for size in sizes] for m in tokenizer.modalities}
    first = data.clips["test"]
    with TemporaryDirectory(prefix="tessera-") as work:
        for index in range(first, first + clips):
            for codes in _coded(tokenizer, data.world.clip("test", index), Path(work)):
                for level, counts in enumerate(usage[codes.modality]):
                    counts += np.bincount(codes.codes[:, level], minlength=len(counts))
    return usage


def _coded(tokenizer: Tokenizer, clip: Clip, folder: Path) -> Iterator[Codes]:
    if "audio" in tokenizer.modalities:
        write_wav(folder / "clip.wav", clip)
        yield tokenizer.encode(folder / "clip.wav")
    if "video" in tokenizer.modalities:
        write_mp4(folder / "clip.mp4", clip, fps=_FRAMES_PER_SECOND, with_sound=False)
        yield tokenizer.encode(folder / "clip.mp4")
    if "text" in tokenizer.modalities:
        yield tokenizer.encode_text(clip.caption)
