"""`manifest.json`: what a bundle says of itself.

A model whose video codes depend on the spatial mean of a feature map alone has `video.grid` null: its backbone graph
gives means [batch, time, C], and no map is ever computed or sent. Otherwise the graph gives maps
[batch, time, grid, grid, C].

A model that learnt from empty word slots has `text.slots`: its codes graph fills a text up to that many slots with
zero vectors, and gives codes of the words alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, NonNegativeInt, model_validator

from tessera.windows import MODALITIES, Modality

Positive = Annotated[int, Field(ge=1)]

Precision = Literal["fp32", "fp16"]
"""What encoders compute in, and backbones keep their weights in; distances and codes are always decided in fp32."""

SCHEMA_VERSION: Literal[2] = 2
"""What is written; version 1, which says less, is read too."""

# No folder, no hidden file, nothing that a shell or a file system takes for more than a name.
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TensorSpec(_Part):
    """One input or output of a graph. Dynamic axes are names (`batch`, `time`), fixed axes are sizes."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def sized(self, **axes: int) -> tuple[int, ...]:
        """The shape where the dynamic axes have these sizes; an axis `16000*time` is a multiple of one."""
        return tuple(axis if isinstance(axis, int) else _size(axis, axes) for axis in self.shape)


def _size(axis: str, axes: Mapping[str, int]) -> int:
    times, _, name = axis.rpartition("*")
    return int(times or 1) * axes[name]


class GraphSpec(_Part):
    """One ONNX file: its hash and its signature."""

    file: str
    sha256: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class TimeGrid(_Part):
    """How a clip is cut. A remainder below `min_tail_sec` is dropped (codecs pad), a longer one fills a segment."""

    hop_sec: Annotated[float, Field(gt=0, le=3600)] = 1.0
    window_segments: Annotated[int, Field(ge=1, le=4096)] = 10
    min_tail_sec: Annotated[float, Field(gt=0)] = 0.25

    @model_validator(mode="after")
    def _a_tail_is_part_of_a_segment(self) -> Self:
        if self.min_tail_sec > self.hop_sec:
            raise ValueError(
                f"a tail of {self.min_tail_sec:g} s is more than a segment of {self.hop_sec:g} s"
            )
        return self

    def segments(self, duration_sec: float) -> int:
        """Segments of a clip of `duration_sec` > 0 seconds; at least one."""
        whole = int(duration_sec / self.hop_sec + 1e-6)
        tail = duration_sec - whole * self.hop_sec
        return max(1, whole + (tail >= self.min_tail_sec))


class AudioSpec(_Part):
    """The waveform an audio backbone takes: mono float32 in [-1, 1]."""

    backbone: str
    sample_rate: Positive
    feature_dim: Positive


class VideoSpec(_Part):
    """The frames a video backbone takes: uint8 RGB, `frames_per_segment` evenly spaced frames per segment.

    `grid` is how many cells a side its maps have; None where it gives their spatial means.
    """

    backbone: str
    frames_per_segment: Positive
    height: Positive
    width: Positive
    grid: Positive | None
    feature_dim: Positive


class TextSpec(_Part):
    """The word slots a text backbone takes; one slot is one word, averaged over its tokens.

    `words` is the file of the bundle that lists the token ids of the words that fill a slot; None where all words do.
    `slots` is how many of them the model sees at once, empty ones as zeros; None where it sees the words alone.
    """

    backbone: str
    feature_dim: Positive
    slots: Positive | None = None
    words: str | None = None


class Comparison(_Part):
    """Codes of one computation against those of another. Margins are those of the codes that differ.

    `max_abs_*` are the largest differences, of margins and embeddings where codes are equal; `largest_*` how large
    those are that were expected. `distinct` codes were among the expected ones. `parts` are the same of segments and
    of clips, and of each level, where there are several: what is said of the whole is the worst of them, and
    `distinct` the fewest.
    """

    codes: int
    mismatches: int
    largest_margin: float = 0.0
    mean_margin: float = 0.0
    margins: tuple[float, ...] = ()
    max_abs_margin: float = 0.0
    max_abs_embedding: float = 0.0
    max_abs_latent: float = 0.0
    largest_embedding: float = 0.0
    largest_latent: float = 0.0
    distinct: int = 0
    parts: dict[str, Comparison] = {}

    @property
    def agreement(self) -> float:
        """The share of codes that are equal, of the part where it is least."""
        return min(1.0 - part.mismatches / max(1, part.codes) for part in self.parts.values() or (self,))


class BackboneParity(_Part):
    """How a backbone graph agreed with torch: the largest difference of a feature.

    `step` is how far apart the features lie of a backbone that rounds, `stepped` the share of those that were rounded
    to another number; `optimization` how many of the segments went through it at each level of graph optimisation.
    """

    segments: int
    max_abs: float
    step: float = 0.0
    stepped: float = 0.0
    optimization: dict[str, int] = {}


class ModalityParity(_Part):
    """How ONNX Runtime agreed with torch on one modality, as the bundle is served.

    `segments` counts codes, of segments and of clips. Half precision is compared with full precision.
    `epsilon`: codes may differ where their margins are below it, and nowhere may margins differ by more.
    `optimization`: the same at each level of graph optimisation. `alone`: windows one by one against windows in a
    batch. `padded`: windows of their own length against longer ones whose rest is masked, or empty as in training.
    `end_to_end`: recorded media through both graphs, against torch; the difference of features counts there too.
    `peak_memory_mb`: what a process took to load a graph and run one window of ten segments, if it came to its end.
    """

    segments: int
    mismatches: int
    largest_mismatch_margin: float
    epsilon: float
    max_abs_embedding: float
    max_abs_latent: float
    shapes: tuple[tuple[int, int], ...]
    mean_mismatch_margin: float = 0.0
    optimization: dict[str, Comparison] = {}
    alone: Comparison | None = None
    padded: Comparison | None = None
    end_to_end: Comparison | None = None
    backbone: BackboneParity | None = None
    peak_memory_mb: dict[str, float] = {}


def _as_many(value: object) -> object:
    return (value,) if isinstance(value, int) else value


class Toc(_Part):
    """The channel selection that was baked in: how many channels are kept of each quantiser, and their scores."""

    keep: Annotated[tuple[int, ...], BeforeValidator(_as_many)]
    lambda_: float = Field(alias="lambda")
    scores: tuple[tuple[float, ...], ...] = ()


class Provenance(_Part):
    """Where the weights come from. `origin` is what an import noted of a released file, `backbones` their weights."""

    recipe: dict[str, object]
    data: str
    commit: str
    step: int
    scores: dict[str, object]
    origin: dict[str, object] = {}
    backbones: dict[Modality, dict[str, Any]] = {}


class Manifest(_Part):
    """Everything serving must know; the sha256 of the file is the `model_revision`.

    `usage` is how often each code was given to clips that nothing was learnt from: by modality, [size] for each level.

    A position has `levels` codes. Of a residual quantiser `depth` consecutive ones belong together: their rows add up,
    and embeddings and latents have its kept channels once. `kept_channels` are those of each level.

    Raises:
        ValueError: parts of it contradict each other.
    """

    schema_version: Literal[1, 2]
    name: str
    family: str
    levels: Positive
    codebook_sizes: tuple[Positive, ...]
    dim: Positive
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
    quantizer: Literal["vq", "residual", "fsq"] = "vq"
    depth: int = Field(1, ge=1)
    precision: Precision = "fp32"
    usage: dict[Modality, tuple[tuple[NonNegativeInt, ...], ...]] = {}

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """The modalities this bundle reads."""
        return tuple(m for m in MODALITIES if getattr(self, m) is not None)

    @property
    def kept_total(self) -> int:
        """Width of embeddings and latents: kept channels of all quantisers together."""
        return sum(len(channels) for channels in self.kept_channels[:: self.depth])

    @model_validator(mode="after")
    def _levels_are_complete(self) -> Self:
        if not self.levels == len(self.codebook_sizes) == len(self.kept_channels) or self.levels % self.depth:
            raise ValueError("levels, codebook_sizes, kept_channels and depth contradict each other")
        for channels in self.kept_channels:
            if not channels or list(channels) != sorted(set(channels) & set(range(self.dim))):
                raise ValueError(f"kept_channels are not different ones of {self.dim}, in ascending order")
        return self

    @model_validator(mode="after")
    def _modalities_are_complete(self) -> Self:
        expected = {f"{m}.{part}" for m in self.modalities for part in ("backbone", "codes")}
        if self.graphs.keys() != expected:
            raise ValueError(f"graphs are {sorted(self.graphs)}, expected {sorted(expected)}")
        if self.parity.keys() != set(self.modalities):
            raise ValueError(f"parity is of {sorted(self.parity)}, expected {sorted(self.modalities)}")
        slots = None if self.text is None else self.text.slots
        if slots is not None and slots < self.time_grid.window_segments:
            raise ValueError(f"windows of {self.time_grid.window_segments} words do not fit {slots} slots")
        return self

    @model_validator(mode="after")
    def _usage_is_of_the_codebooks(self) -> Self:
        for modality, counts in self.usage.items():
            if modality not in self.modalities or tuple(map(len, counts)) != self.codebook_sizes:
                raise ValueError(
                    f"usage of {modality} is not of codebooks of {list(self.codebook_sizes)} codes"
                )
        return self

    @model_validator(mode="after")
    def _files_have_plain_names(self) -> Self:
        for name in (*(graph.file for graph in self.graphs.values()), *self.files):
            if not _FILE_NAME.fullmatch(name):
                raise ValueError(f"{name!r} is not a plain file name")
        return self
