"""A bundle as a model repository of Triton: a model a graph, and an ensemble a modality, backbone into codes.

Triton takes the first axis of every tensor for the batch and leaves it out of `dims`; every other axis whose size is
known only at run time is -1 there. No input allows ragged batches, so its scheduler merges what waits in a row with
equal shapes, and nothing else. That is the rule of `tessera.windows`: windows of equal length share a batch and nothing
is padded, so codes do not depend on what else is asked for. Nobody waits for a batch to fill.

Nothing here needs torch: a serving image can make its own repository.
"""

from __future__ import annotations

import math
import re
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from export.pbtxt import Word, text_format
from tessera.bundle import MANIFEST, Bundle, TensorSpec
from tessera.errors import BundleError
from tessera.onnx_header import OnnxHeader

CONFIG = "config.pbtxt"
_OWNER = "tessera.bundle"

# The first layers of a VGG19 take 25 MB for a picture of 224 x 224: one window of 160 of them is all that fits.
_PIXELS = 160 * 224 * 224

_TYPES = {
    "bool": Word("TYPE_BOOL"),
    "uint8": Word("TYPE_UINT8"),
    "int32": Word("TYPE_INT32"),
    "int64": Word("TYPE_INT64"),
    "float16": Word("TYPE_FP16"),
    "float32": Word("TYPE_FP32"),
    "float64": Word("TYPE_FP64"),
}


@dataclass(frozen=True)
class _Release:
    """What all models of one writing share."""

    bundle: Bundle
    max_batch: int
    version: int

    @property
    def name(self) -> str:
        # A dot would have Triton look for a backend in the name, a slash for a folder.
        return re.sub(r"[^A-Za-z0-9_-]+", "-", self.bundle.manifest.name).strip("-") or "tessera"


@dataclass(frozen=True)
class _Model:
    """One folder of the repository: its configuration, and the one file of this version."""

    name: str
    config: str
    file: str
    data: bytes


def write_repository(bundle: Bundle, out: Path, *, max_batch: int = 8, version: int = 1) -> tuple[str, ...]:
    """Write the graphs of `bundle` to the model repository `out` and return the names of the models.

    Of the bundle `fcid-demo` these are `fcid-demo-audio-backbone`, `fcid-demo-audio-codes`, the ensemble
    `fcid-demo-audio` of both, and so on. Every configuration serves exactly `version` and the ensembles name it too,
    so that codes graphs never see features of another bundle's backbone. Beside the ensemble lies the manifest, for
    clients that cut windows. Other models, other versions and an operator's own `configs/` stay as they are; where
    models run (`instance_group`) is left to Triton's defaults and to those.

    Args:
        max_batch: windows in one run of a graph, at most; fewer where they are of many large pictures. The warm-up
            runs that many whole windows, so that a batch that does not fit into memory is told of at the start.
        version: number of the version folders, from 1.

    Raises:
        BundleError: a graph is not as the manifest says, or `out` holds another model of such a name and version.
    """
    release = _Release(bundle, max_batch, version)
    models = [model for modality in bundle.manifest.modalities for model in _models(release, modality)]
    for model in models:
        _require_free(out / model.name, model, version)
    for model in models:
        folder = out / model.name / str(version)
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / model.file, model.data)
        # The last file of all: until it is there, a polling Triton goes on serving what the old one names.
        _write(out / model.name / CONFIG, model.config.encode())
    return tuple(model.name for model in models)


def _models(release: _Release, modality: str) -> tuple[_Model, _Model, _Model]:
    """Backbone, codes and their ensemble: in the order in which Triton needs them, all with batches of one size."""
    backbone, codes = (_graph(release, f"{modality}.{part}") for part in ("backbone", "codes"))
    name = f"{release.name}-{modality}"
    window = release.bundle.manifest.time_grid.window_segments
    release = replace(release, max_batch=windows_at_once(backbone[1].inputs, window, release.max_batch))
    _require_joined(modality, backbone[1].outputs, codes[1].inputs)
    ensemble = {
        **_head(release, name, "ensemble", backbone[1].inputs, codes[1].outputs),
        "ensemble_scheduling": {
            "step": [
                _step(release, f"{name}-backbone", backbone[1]),
                _step(release, f"{name}-codes", codes[1]),
            ]
        },
    }
    return (
        _onnx_model(release, f"{name}-backbone", *backbone),
        _onnx_model(release, f"{name}-codes", *codes),
        _Model(name, text_format(ensemble), MANIFEST, (release.bundle.folder / MANIFEST).read_bytes()),
    )


def windows_at_once(inputs: tuple[TensorSpec, ...], window: int, most: int) -> int:
    """How many windows of `window` segments a backbone of these inputs may take in one run: 1 to `most`."""
    pictures = [tensor.shape for tensor in inputs if tensor.dtype == "uint8"]
    pixels = sum(math.prod(_size(axis, window) for axis in shape[1:-1]) for shape in pictures)
    return most if not pixels else max(1, min(most, _PIXELS // pixels))


def _graph(release: _Release, name: str) -> tuple[bytes, OnnxHeader]:
    """The file of graph `name` and what it says of itself; the manifest must say the same."""
    data, spec = release.bundle.graph(name), release.bundle.manifest.graphs[name]
    try:
        header = OnnxHeader.read(data)
    except ValueError:
        raise BundleError(f"{spec.file} is not an ONNX file that can be read") from None
    if (header.inputs, header.outputs) != (spec.inputs, spec.outputs):
        raise BundleError(f"{spec.file} has other inputs or outputs than the manifest says")
    for tensor in (*header.inputs, *header.outputs):
        if tensor.shape[:1] != ("batch",) or len(tensor.shape) < 2 or tensor.dtype not in _TYPES:
            raise BundleError(f"'{tensor.name}' of {spec.file} is nothing that Triton can batch")
    return data, header


def _require_joined(modality: str, given: tuple[TensorSpec, ...], taken: tuple[TensorSpec, ...]) -> None:
    if given != taken:
        raise BundleError(f"the {modality} backbone does not give what the {modality} codes graph takes")


def _onnx_model(release: _Release, name: str, data: bytes, header: OnnxHeader) -> _Model:
    config = {
        **_head(release, name, "onnxruntime_onnx", header.inputs, header.outputs),
        "dynamic_batching": {},
        "model_warmup": [_warm_up(release, header.inputs, batch) for batch in sorted({1, release.max_batch})],
    }
    return _Model(name, text_format(config), "model.onnx", data)


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
        "version_policy": {"specific": {"versions": [release.version]}},
        "input": [_tensor(tensor) for tensor in inputs],
        "output": [_tensor(tensor) for tensor in outputs],
        "parameters": [{"key": _OWNER, "value": {"string_value": release.bundle.revision}}],
    }


def _tensor(tensor: TensorSpec) -> dict[str, object]:
    dims = [axis if isinstance(axis, int) else -1 for axis in tensor.shape[1:]]
    return {"name": tensor.name, "data_type": _TYPES[tensor.dtype], "dims": dims}


def _step(release: _Release, model: str, header: OnnxHeader) -> dict[str, object]:
    """Tensors keep their names within the ensemble: `features` joins the two graphs."""
    return {
        "model_name": model,
        "model_version": release.version,
        "input_map": [{"key": tensor.name, "value": tensor.name} for tensor in header.inputs],
        "output_map": [{"key": tensor.name, "value": tensor.name} for tensor in header.outputs],
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
                    "dims": [_size(axis, window) for axis in tensor.shape[1:]],
                    "zero_data": True,
                },
            }
            for tensor in inputs
        ],
    }


def _size(axis: int | str, window: int) -> int:
    """The size of an axis in a whole window: of `16000*time`, or of `tokens` where each word is one."""
    if isinstance(axis, int):
        return axis
    size = 1
    for factor in axis.split("*"):
        size *= int(factor) if factor.strip().isdigit() else window
    return size


def _require_free(folder: Path, model: _Model, version: int) -> None:
    """A version never changes once it is written, and the models of others are not touched."""
    config, file = folder / CONFIG, folder / str(version) / model.file
    if config.exists() and f'"{_OWNER}"' not in config.read_text(errors="replace"):
        raise BundleError(f"the repository has a model '{model.name}' that is not of a bundle")
    others = [path for path in file.parent.glob("[!.]*") if path != file]
    if others or (file.exists() and file.read_bytes() != model.data):
        raise BundleError(
            f"the repository has another version {version} of '{model.name}'; choose the next --version"
        )


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all: Triton may be reading."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
        file.write(data)
    Path(file.name).chmod(0o644)
    Path(file.name).replace(path)
