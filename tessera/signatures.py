"""What the graphs of a bundle take and give, as it follows from the rest of its manifest."""

from __future__ import annotations

from collections.abc import Mapping

from tessera.errors import BundleError
from tessera.manifest import AudioSpec, Manifest, TensorSpec, TextSpec, TimeGrid, VideoSpec

Tensors = tuple[TensorSpec, ...]

_INTEGERS = ("codes", "clip_code")


def require_signatures(manifest: Manifest) -> None:
    """Check the signature of each graph against what the manifest says of its modality.

    Raises:
        BundleError: a graph takes or gives something else: other samples or frames, or features of another shape.
    """
    outputs = codes_outputs(manifest.levels, manifest.kept_total, manifest.clip_codes)
    for modality in manifest.modalities:
        spec = getattr(manifest, modality)
        features = (_features(spec),)
        graphs = {
            f"{modality}.backbone": (backbone_inputs(spec, manifest.time_grid), features),
            f"{modality}.codes": (features, tuple(_output(name, shape) for name, shape in outputs.items())),
        }
        for name, (inputs, given) in graphs.items():
            graph = manifest.graphs[name]
            _require(f"the inputs of {graph.file}", graph.inputs, inputs)
            _require(f"the outputs of {graph.file}", graph.outputs, given)


def backbone_inputs(spec: AudioSpec | VideoSpec | TextSpec, grid: TimeGrid) -> Tensors:
    """What the backbone graph of `spec` takes; `time` counts segments."""
    if isinstance(spec, AudioSpec):
        samples = round(spec.sample_rate * grid.hop_sec)
        return (TensorSpec(name="waveform", dtype="float32", shape=("batch", f"{samples}*time")),)
    if isinstance(spec, VideoSpec):
        frames = (spec.frames_per_segment, spec.height, spec.width, 3)
        return (TensorSpec(name="frames", dtype="uint8", shape=("batch", "time", *frames)),)
    return (
        TensorSpec(name="input_ids", dtype="int64", shape=("batch", "tokens")),
        TensorSpec(name="slots", dtype="float32", shape=("batch", "time", "tokens")),
    )


def feature_shape(spec: AudioSpec | VideoSpec | TextSpec) -> tuple[int, ...]:
    """Shape of the features of one segment."""
    if isinstance(spec, VideoSpec) and spec.grid is not None:
        return spec.grid, spec.grid, spec.feature_dim
    return (spec.feature_dim,)


def codes_outputs(levels: int, kept: int, clip_codes: bool) -> Mapping[str, tuple[int | str, ...]]:
    """The outputs of a codes graph with `levels` codes a position and `kept` channels of an embedding, axis by axis."""
    segment: dict[str, tuple[int | str, ...]] = {
        "codes": ("batch", "time", levels),
        "margins": ("batch", "time", levels),
        "embeddings": ("batch", "time", kept),
        "latents": ("batch", "time", kept),
    }
    clip: dict[str, tuple[int | str, ...]] = {
        "clip_code": ("batch", levels),
        "clip_margin": ("batch", levels),
        "clip_embedding": ("batch", kept),
        "clip_latent": ("batch", kept),
    }
    return segment | (clip if clip_codes else {})


def _features(spec: AudioSpec | VideoSpec | TextSpec) -> TensorSpec:
    return TensorSpec(name="features", dtype="float32", shape=("batch", "time", *feature_shape(spec)))


def _output(name: str, shape: tuple[int | str, ...]) -> TensorSpec:
    return TensorSpec(name=name, dtype="int64" if name in _INTEGERS else "float32", shape=shape)


def _require(what: str, found: Tensors, expected: Tensors) -> None:
    if {t.name: t for t in found} != {t.name: t for t in expected}:
        raise BundleError(
            f"{what} are {_text(found)}; by the rest of the manifest they are {_text(expected)}"
        )


def _text(tensors: Tensors) -> str:
    return ", ".join(f"{t.name} {t.dtype} [{', '.join(map(str, t.shape))}]" for t in tensors)
