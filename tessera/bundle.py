"""The bundle: the folder that `export` writes and `service` reads, and its manifest."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors

from tessera.errors import BundleError
from tessera.windows import MODALITIES, Modality

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
CODEBOOK = "codebook.safetensors"
DEMO = Path(__file__).parent / "demo"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TensorSpec(_Part):
    """One input or output of a graph. Dynamic axes are names (`batch`, `time`), fixed axes are sizes."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


class GraphSpec(_Part):
    """One ONNX file: its hash and its signature."""

    file: str
    sha256: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class TimeGrid(_Part):
    """How a clip is cut. A remainder below `min_tail_sec` is dropped (codecs pad), a longer one fills a segment."""

    hop_sec: float = 1.0
    window_segments: int = 10
    min_tail_sec: float = 0.25

    def segments(self, duration_sec: float) -> int:
        """Segments of a clip of `duration_sec` > 0 seconds; at least one."""
        whole = int(duration_sec / self.hop_sec + 1e-6)
        tail = duration_sec - whole * self.hop_sec
        return max(1, whole + (tail >= self.min_tail_sec))


class AudioSpec(_Part):
    """The waveform an audio backbone takes: mono float32 in [-1, 1]."""

    backbone: str
    sample_rate: int
    feature_dim: int


class VideoSpec(_Part):
    """The frames a video backbone takes: uint8 RGB, `frames_per_segment` evenly spaced frames per segment."""

    backbone: str
    frames_per_segment: int
    height: int
    width: int
    grid: int
    feature_dim: int


class TextSpec(_Part):
    """The word slots a text backbone takes; one slot is one word, averaged over its tokens."""

    backbone: str
    feature_dim: int


class ModalityParity(_Part):
    """How ONNX Runtime agreed with torch on one modality."""

    segments: int
    mismatches: int
    largest_mismatch_margin: float
    epsilon: float
    max_abs_embedding: float
    max_abs_latent: float
    shapes: tuple[tuple[int, int], ...]


class Toc(_Part):
    """The channel selection that was baked in."""

    keep: int
    lambda_: float = Field(alias="lambda")


class Provenance(_Part):
    """Where the weights come from."""

    recipe: dict[str, object]
    data: str
    commit: str
    step: int
    scores: dict[str, object]


class Manifest(_Part):
    """`manifest.json`: everything serving must know; its sha256 is the `model_revision`."""

    schema_version: Literal[1]
    name: str
    family: str
    levels: int
    codebook_sizes: tuple[int, ...]
    dim: int
    kept_channels: tuple[tuple[int, ...], ...]
    clip_codes: bool
    time_grid: TimeGrid
    audio: AudioSpec | None
    video: VideoSpec | None
    text: TextSpec | None
    graphs: dict[str, GraphSpec]
    files: dict[str, str]
    toc: Toc
    parity: dict[Modality, ModalityParity]
    provenance: Provenance
    licence: str

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """The modalities this bundle reads."""
        return tuple(m for m in MODALITIES if getattr(self, m) is not None)

    @property
    def kept_total(self) -> int:
        """Width of embeddings and latents: kept channels of all levels together."""
        return sum(len(channels) for channels in self.kept_channels)


def sha256_of(data: bytes) -> str:
    """Hex digest of `data`."""
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class Bundle:
    """A verified bundle: every byte it hands out has the hash that the manifest states."""

    folder: Path
    manifest: Manifest
    revision: str

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Read and verify the manifest of `folder` and the hash of each file it names.

        Raises:
            BundleError: no bundle here, another schema version, or a file that does not have its hash.
        """
        root = Path(folder)
        try:
            raw = (root / MANIFEST).read_bytes()
        except OSError:
            raise BundleError(f"'{root}' is not a bundle: it has no readable {MANIFEST}") from None
        bundle = cls(root, _parse_manifest(raw), f"sha256:{sha256_of(raw)}")
        bundle.verify()
        return bundle

    def verify(self) -> None:
        """Check each file against the manifest.

        Raises:
            BundleError: a file is missing, changed, a link, or outside the folder.
        """
        for graph in self.manifest.graphs.values():
            self._read(graph.file, graph.sha256)
        for name, digest in self.manifest.files.items():
            self._read(name, digest)

    def graph(self, name: str) -> bytes:
        """The bytes of graph `name` (`audio.backbone`, `text.codes` ...), hash checked."""
        spec = self.manifest.graphs[name]
        return self._read(spec.file, spec.sha256)

    def file(self, name: str) -> bytes:
        """The bytes of another file of the bundle, hash checked."""
        return self._read(name, self.manifest.files[name])

    @cached_property
    def codebook(self) -> tuple[NDArray[np.float32], ...]:
        """The codebook cut to the kept channels, one array [size, kept] per level.

        Raises:
            BundleError: the file does not hold the arrays that the manifest promises.
        """
        manifest = self.manifest
        try:
            full = load_safetensors(self.file(CODEBOOK))["codebook"]
        except (KeyError, SafetensorError):
            raise BundleError(f"{CODEBOOK} holds no readable 'codebook'") from None
        expected = (manifest.levels, max(manifest.codebook_sizes), manifest.dim)
        if full.shape != expected:
            raise BundleError(f"{CODEBOOK} has shape {full.shape}, the manifest promises {expected}")
        return tuple(
            np.ascontiguousarray(full[level, :size][:, list(kept)], dtype=np.float32)
            for level, (size, kept) in enumerate(
                zip(manifest.codebook_sizes, manifest.kept_channels, strict=True)
            )
        )

    def _read(self, name: str, digest: str) -> bytes:
        if Path(name).name != name:
            raise BundleError(f"the manifest names '{name}', which is not a plain file name")
        path = self.folder / name
        if path.is_symlink():
            raise BundleError(f"{name} is a link; a bundle holds plain files")
        try:
            data = path.read_bytes()
        except OSError:
            raise BundleError(f"{name} is missing or unreadable") from None
        if sha256_of(data) != digest:
            raise BundleError(f"{name} has changed since the export: its hash is not the manifest's")
        return data


def _parse_manifest(raw: bytes) -> Manifest:
    try:
        return Manifest.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise BundleError(
            f"{MANIFEST} is not of schema version {SCHEMA_VERSION}: {where}: {first['msg']}"
        ) from None
