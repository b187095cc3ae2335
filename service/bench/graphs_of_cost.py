"""Valid bundles whose codes graph costs what is asked for, so that a server can be measured at any cost of a model.

The bundle is the demo's, audio alone, with another codes graph: `depth` products with one orthogonal matrix, which keep
features as large as they are, then codes from the largest of a few channels. Nothing in it was learnt.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tessera.bundle import (
    CODEBOOK,
    DEMO,
    MANIFEST,
    Bundle,
    GraphSpec,
    ModalityParity,
    Provenance,
    graph_metadata,
    sha256_of,
)
from tessera.manifest import TensorSpec

_NAME = "audio.codes"
_FILE = "audio.codes.onnx"
_WIDTH = 256
_CHOICES = 8
"""Codes are told apart in so many channels: few, so that a graph without a product costs next to nothing."""

_OPSET = 20
_BATCH, _SEGMENTS = 8, 10
_DEPTHS = (4, 20)
_REPEATS = 15


def write_bundle(folder: Path, item_ms: float) -> Path:
    """A bundle in `folder` whose codes graph takes about `item_ms` a clip of ten segments, eight at once, here."""
    return write_deep_bundle(folder, _depth(item_ms), f"cost-{item_ms:g}ms")


def write_deep_bundle(folder: Path, depth: int, name: str) -> Path:
    """A bundle in `folder` whose codes graph has `depth` products; the same bytes for the same `depth`."""
    demo = Bundle.load(DEMO)
    folder.mkdir(parents=True, exist_ok=True)
    stated = {part: demo.manifest.graphs[part] for part in ("audio.backbone", _NAME)}
    graph = _graph(stated[_NAME], demo.codebook[0], depth)
    backbone = stated["audio.backbone"]
    manifest = demo.manifest.model_copy(
        update={
            "name": name,
            "video": None,
            "text": None,
            "graphs": {
                "audio.backbone": backbone,
                _NAME: stated[_NAME].model_copy(update={"sha256": sha256_of(graph)}),
            },
            "files": {CODEBOOK: demo.manifest.files[CODEBOOK]},
            "parity": {"audio": _no_parity()},
            "provenance": Provenance(recipe={}, data="none", commit="none", step=0, scores={}),
            "usage": {},
        }
    )
    (folder / _FILE).write_bytes(graph)
    (folder / backbone.file).write_bytes(demo.graph("audio.backbone"))
    (folder / CODEBOOK).write_bytes(demo.file(CODEBOOK))
    (folder / MANIFEST).write_text(manifest.model_dump_json(by_alias=True, indent=1))
    return folder


def _no_parity() -> ModalityParity:
    """Nothing was compared, as there is nothing that the graph was exported from."""
    return ModalityParity(
        segments=0,
        mismatches=0,
        largest_mismatch_margin=0.0,
        epsilon=0.001,
        max_abs_embedding=0.0,
        max_abs_latent=0.0,
        shapes=(),
    )


def _depth(item_ms: float) -> int:
    """How many products take `item_ms`; one product costs the slope between two depths, as the rest is not theirs."""
    if item_ms == 0:
        return 0
    demo = Bundle.load(DEMO)
    spec, rows = demo.manifest.graphs[_NAME], demo.codebook[0]
    few, many = (_clip_sec(_graph(spec, rows, depth)) for depth in _DEPTHS)
    product = max(1e-7, (many - few) / (_DEPTHS[1] - _DEPTHS[0]))
    return max(1, round((item_ms / 1000 - few) / product) + _DEPTHS[0])


def _clip_sec(graph: bytes) -> float:
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    features = np.random.default_rng(0).normal(size=(_BATCH, _SEGMENTS, 128)).astype(np.float32)
    spent = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        session.run(None, {"features": features})
        spent.append(time.perf_counter() - started)
    return min(spent) / _BATCH  # what disturbs a run only makes it longer


def _graph(stated: GraphSpec, rows: NDArray[np.float32], depth: int) -> bytes:
    """The ONNX file of a codes graph with the signature `stated`; `rows` are the codebook, [size, kept]."""
    kept = rows.shape[1]
    constants = {"rows": rows, "first": np.array([0]), "choices": np.array([_CHOICES])}
    constants |= {"kept": np.array([kept]), "channels": np.array([-1]), "squeezed": np.array([-1])}
    nodes, hidden = [], "features"
    if depth:
        random = np.random.default_rng(0)
        square = np.linalg.qr(random.normal(size=(_WIDTH, _WIDTH)))[0].astype(np.float32)
        constants |= {"wide": np.ascontiguousarray(square[:128]), "square": square}
        for number in range(depth):
            weights, given = ("wide" if number == 0 else "square"), f"hidden_{number}"
            nodes.append(helper.make_node("MatMul", [hidden, weights], [given]))
            hidden = given
    nodes += _head(hidden, "codes", "margins", "embeddings", "latents")
    nodes.append(helper.make_node("ReduceMean", [hidden, "time"], ["mean"], keepdims=0))
    constants["time"] = np.array([1])
    nodes += _head("mean", "clip_code", "clip_margin", "clip_embedding", "clip_latent")
    graph = helper.make_graph(
        nodes,
        "cost",
        [_value(spec) for spec in stated.inputs],
        [_value(spec) for spec in stated.outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=10)
    helper.set_model_props(model, graph_metadata(_NAME, 1))
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _head(hidden: str, code: str, margin: str, embedding: str, latent: str) -> list[onnx.NodeProto]:
    """The largest of the first channels is the code, how large it is its margin."""
    few = f"{code}_few"
    return [
        helper.make_node("Slice", [hidden, "first", "choices", "channels"], [few]),
        helper.make_node("ArgMax", [few], [code], axis=-1, keepdims=1),
        helper.make_node("ReduceMax", [few, "channels"], [margin], keepdims=1),
        helper.make_node("Squeeze", [code, "squeezed"], [f"{code}_index"]),
        helper.make_node("Gather", ["rows", f"{code}_index"], [embedding], axis=0),
        helper.make_node("Slice", [hidden, "first", "kept", "channels"], [latent]),
    ]


def _value(spec: TensorSpec) -> onnx.ValueInfoProto:
    kinds = {"int64": TensorProto.INT64, "float32": TensorProto.FLOAT}
    return helper.make_tensor_value_info(spec.name, kinds[spec.dtype], list(spec.shape))
