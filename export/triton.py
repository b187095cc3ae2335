"""A bundle as a model repository of Triton: a model a graph, and an ensemble a modality, backbone into codes.

Triton takes the first axis of every tensor for the batch and leaves it out of `dims`; every other axis whose size is
known only at run time is -1 there. No input allows ragged batches, so its scheduler merges what waits in a row with
equal shapes, and nothing else. That is the rule of `tessera.windows`: windows of equal length share a batch and nothing
is padded, so codes do not depend on what else is asked for. Nobody waits for a batch to fill.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from export.pbtxt import Word, text_format
from tessera.bundle import MANIFEST, Bundle, GraphSpec, TensorSpec

OWNER = "tessera.bundle"
"""A parameter that our configurations have: the revision of the bundle."""

# The first layers of a VGG19 take 25 MB for a picture of 224 x 224: one window of 160 of them is all that fits.
_PIXELS = 160 * 224 * 224

_TYPES = {
    "uint8": Word("TYPE_UINT8"),
    "int64": Word("TYPE_INT64"),
    "float32": Word("TYPE_FP32"),
}


@dataclass(frozen=True)
class _Release:
    """What all models of one writing share."""

    bundle: Bundle
    max_batch: int
    version: int


@dataclass(frozen=True)
class Model:
    """One folder of the repository: its configuration but for the versions, and the one file of this version."""

    name: str
    ensemble: bool
    config: Mapping[str, object]
    file: str
    sha256: str
    data: Callable[[], bytes]

    def config_of(self, versions: Sequence[int]) -> bytes:
        """The configuration file that has these versions served."""
        policy = {"version_policy": {"specific": {"versions": list(versions)}}}
        return text_format({**self.config, **policy}).encode()


def models_of(bundle: Bundle, max_batch: int, version: int) -> list[Model]:
    """Backbone, codes and their ensemble of each modality of `bundle`: what `write_repository` writes."""
    release = _Release(bundle, max_batch, version)
    return [model for modality in bundle.manifest.modalities for model in _models(release, modality)]


def model_names(bundle: str, modality: str) -> tuple[str, str, str]:
    """What backbone, codes and ensemble of a bundle of that name are called."""
    # A dot would have Triton look for a backend in the name, a slash for a folder.
    name = f"{re.sub(r'[^A-Za-z0-9_-]+', '-', bundle).strip('-') or 'tessera'}-{modality}"
    return f"{name}-backbone", f"{name}-codes", name


def _models(release: _Release, modality: str) -> tuple[Model, Model, Model]:
    """All with batches of one size."""
    bundle = release.bundle
    manifest, digest = bundle.manifest, bundle.revision.removeprefix("sha256:")
    backbone, codes = (manifest.graphs[f"{modality}.{part}"] for part in ("backbone", "codes"))
    first, second, name = model_names(manifest.name, modality)
    most = windows_at_once(backbone.inputs, manifest.time_grid.window_segments, release.max_batch)
    release = replace(release, max_batch=most)
    ensemble = {
        **_head(release, name, "ensemble", backbone.inputs, codes.outputs),
        "ensemble_scheduling": {"step": [_step(release, first, backbone), _step(release, second, codes)]},
    }
    return (
        _onnx_model(release, first, f"{modality}.backbone"),
        _onnx_model(release, second, f"{modality}.codes"),
        Model(name, True, ensemble, MANIFEST, digest, (bundle.folder / MANIFEST).read_bytes),
    )


def windows_at_once(inputs: tuple[TensorSpec, ...], window: int, most: int) -> int:
    """How many windows of `window` segments a backbone of these inputs may take in one run: 1 to `most`."""
    pictures = [_window(tensor, window) for tensor in inputs if tensor.dtype == "uint8"]
    pixels = sum(math.prod(shape[:-1]) for shape in pictures)
    return most if not pixels else max(1, min(most, _PIXELS // pixels))


def _onnx_model(release: _Release, name: str, graph: str) -> Model:
    spec = release.bundle.manifest.graphs[graph]
    config = {
        **_head(release, name, "onnxruntime_onnx", spec.inputs, spec.outputs),
        "dynamic_batching": {},
        "model_warmup": [_warm_up(release, spec.inputs, batch) for batch in sorted({1, release.max_batch})],
    }
    return Model(name, False, config, "model.onnx", spec.sha256, partial(release.bundle.graph, graph))


def _head(
    release: _Release,
    name: str,
    platform: str,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
) -> dict[str, object]:
    return {
        "name": name,
        "platform": platform,
        "max_batch_size": release.max_batch,
        "input": [_tensor(tensor) for tensor in inputs],
        "output": [_tensor(tensor) for tensor in outputs],
        "parameters": [{"key": OWNER, "value": {"string_value": release.bundle.revision}}],
    }


def _tensor(tensor: TensorSpec) -> dict[str, object]:
    dims = [axis if isinstance(axis, int) else -1 for axis in tensor.shape[1:]]
    return {"name": tensor.name, "data_type": _TYPES[tensor.dtype], "dims": dims}


def _step(release: _Release, model: str, graph: GraphSpec) -> dict[str, object]:
    """Tensors keep their names within the ensemble: `features` joins the two graphs."""
    return {
        "model_name": model,
        "model_version": release.version,
        "input_map": [{"key": tensor.name, "value": tensor.name} for tensor in graph.inputs],
        "output_map": [{"key": tensor.name, "value": tensor.name} for tensor in graph.outputs],
    }


def _warm_up(release: _Release, inputs: tuple[TensorSpec, ...], batch: int) -> dict[str, object]:
    """`batch` whole windows of silence, black or the padding token: zeros are valid for every input."""
    window = release.bundle.manifest.time_grid.window_segments
    return {
        "name": f"batch of {batch}",
        "batch_size": batch,
        "inputs": [
            {
                "key": tensor.name,
                "value": {
                    "data_type": _TYPES[tensor.dtype],
                    "dims": _window(tensor, window),
                    "zero_data": True,
                },
            }
            for tensor in inputs
        ],
    }


def _window(tensor: TensorSpec, segments: int) -> list[int]:
    """The shape of a whole window without the batch; of a text with a token for each word."""
    return list(tensor.sized(batch=1, time=segments, tokens=segments)[1:])
