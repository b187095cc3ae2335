"""The bundle: the folder that `export` writes and `service` reads, and its manifest."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors

from tessera.errors import BundleError
from tessera.manifest import (
    SCHEMA_VERSION,
    AudioSpec,
    GraphSpec,
    Manifest,
    ModalityParity,
    Provenance,
    TensorSpec,
    TextSpec,
    TimeGrid,
    Toc,
    VideoSpec,
)
from tessera.onnx_header import OnnxHeader
from tessera.signatures import require_signatures

__all__ = [
    "CODEBOOK",
    "DEMO",
    "MANIFEST",
    "SCHEMA_VERSION",
    "AudioSpec",
    "Bundle",
    "GraphSpec",
    "Manifest",
    "ModalityParity",
    "Provenance",
    "TensorSpec",
    "TextSpec",
    "TimeGrid",
    "Toc",
    "VideoSpec",
    "graph_metadata",
    "parse_manifest",
    "sha256_of",
]

MANIFEST = "manifest.json"
CODEBOOK = "codebook.safetensors"
DEMO = Path(__file__).parent / "demo"


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
        """Read and verify the manifest of `folder`, and the hash and the signature of each file it names.

        Raises:
            BundleError: no bundle here, another schema version, a manifest that contradicts itself, or a file that is
                not the one of the manifest.
        """
        root = Path(folder)
        raw = _plain_file(root / MANIFEST)
        if raw is None:
            raise BundleError(f"'{root}' is not a bundle: it has no readable {MANIFEST}")
        bundle = cls(root, parse_manifest(raw), f"sha256:{sha256_of(raw)}")
        bundle.verify()
        return bundle

    def verify(self) -> None:
        """Check each file against the manifest.

        Raises:
            BundleError: a file is missing, changed or a link, or a graph is of another signature or another bundle, or
                wants data from another file, or the codebook is of another shape.
        """
        for name, graph in self.manifest.graphs.items():
            self._require_stated(name, graph, self._read(graph.file, graph.sha256))
        for name, digest in self.manifest.files.items():
            self._read(name, digest)
        self._require_tables(self._tables())

    def graph(self, name: str) -> bytes:
        """The bytes of graph `name` (`audio.backbone`, `text.codes` ...), hash checked."""
        spec = self.manifest.graphs[name]
        return self._read(spec.file, spec.sha256)

    def file(self, name: str) -> bytes:
        """The bytes of another file of the bundle, hash checked."""
        return self._read(name, self.manifest.files[name])

    @cached_property
    def codebook(self) -> tuple[NDArray[np.float32], ...]:
        """The codebook cut to the kept channels, one array [size, kept] per level."""
        tables = zip(self._tables(), self.manifest.codebook_sizes, self.manifest.kept_channels, strict=True)
        return tuple(np.ascontiguousarray(table[:size, list(kept)]) for table, size, kept in tables)

    def _tables(self) -> NDArray[np.float32]:
        """All channels of the codebook: [levels, largest size, dim], zeros behind the codes of a smaller level."""
        if CODEBOOK not in self.manifest.files:
            raise BundleError(f"the manifest names no {CODEBOOK}")
        try:
            tables: NDArray[np.float32] = load_safetensors(self.file(CODEBOOK))["codebook"]
        except (KeyError, SafetensorError):
            raise BundleError(f"{CODEBOOK} holds no readable 'codebook'") from None
        return tables

    def _require_tables(self, tables: NDArray[np.float32]) -> None:
        sizes, dim = self.manifest.codebook_sizes, self.manifest.dim
        expected = (self.manifest.levels, max(sizes), dim)
        if tables.shape != expected or tables.dtype != np.float32:
            found = f"{tables.dtype} of shape {tables.shape}"
            raise BundleError(f"{CODEBOOK} holds {found}, the manifest promises float32 of {expected}")
        if any(table[size:].any() for table, size in zip(tables, sizes, strict=True)):
            raise BundleError(f"{CODEBOOK} holds more codes than the manifest promises, {list(sizes)}")

    def _require_stated(self, name: str, graph: GraphSpec, data: bytes) -> None:
        """Raise a BundleError unless the ONNX file `data` is what the manifest says of graph `name`."""
        try:
            header = OnnxHeader.read(data)
        except ValueError:
            raise BundleError(f"{graph.file} is not an ONNX file that can be read") from None
        if header.external_data:
            raise BundleError(f"{graph.file} keeps data in other files; a bundle holds whole graphs")
        if (header.inputs, header.outputs) != (graph.inputs, graph.outputs):
            raise BundleError(f"{graph.file} has other inputs or outputs than the manifest says")
        expected = graph_metadata(name, self.manifest.schema_version, self.manifest.precision)
        if header.metadata != expected:
            raise BundleError(
                f"{graph.file} is not the graph '{name}' of this bundle: its metadata say otherwise"
            )

    def _read(self, name: str, digest: str) -> bytes:
        data = _plain_file(self.folder / name)
        if data is None:
            raise BundleError(f"{name} is missing or unreadable")
        if sha256_of(data) != digest:
            raise BundleError(f"{name} has changed since the export: its hash is not the manifest's")
        return data


def _plain_file(path: Path) -> bytes | None:
    """What is in a file; None where there is none, or it cannot be read. A pipe would be waited for without an end."""
    if path.is_symlink():
        raise BundleError(f"{path.name} is a link; a bundle holds plain files")
    try:
        return path.read_bytes() if path.is_file() else None
    except OSError:
        return None


def graph_metadata(
    name: str, schema_version: int = SCHEMA_VERSION, precision: str = "fp32"
) -> dict[str, str]:
    """What the ONNX file of graph `name` states of itself."""
    metadata = {
        "tessera.graph": name,
        "tessera.modality": name.partition(".")[0],
        "tessera.schema_version": str(schema_version),
    }
    return metadata if schema_version == 1 else {**metadata, "tessera.precision": precision}


def parse_manifest(raw: bytes) -> Manifest:
    """The manifest in the file `raw`.

    Raises:
        BundleError: it is not one, of another schema version, or its parts contradict each other.
    """
    try:
        manifest = Manifest.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        message = first["msg"].removeprefix("Value error, ")
        raise BundleError(
            f"{MANIFEST} is not of schema version 1 to {SCHEMA_VERSION}: {where}: {message}"
        ) from None
    require_signatures(manifest)
    return manifest
