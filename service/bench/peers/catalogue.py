"""The servers that are compared: how each is started, and in which form it takes and gives arrays fastest."""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.bench.load import Request

SOURCES = Path(__file__).parents[3] / "benchmarks" / "peers"
"""One folder a peer: its server and what that needs. They run in other interpreters, so they are not in the package."""

TESSERA = "tessera"

Features = NDArray[np.float32]
Codes = NDArray[np.int64]
WireForm = Callable[[Features, Codes], Request]
"""Features [items, segments, width] and their codes [items, segments, levels] as a request and its right answer."""


@dataclass(frozen=True)
class Plan:
    """What one server is started for: the bundle, where to listen, items in a request, items in a batch, threads."""

    bundle: Path
    port: int
    items: int
    batch: int
    threads: int

    @property
    def environment(self) -> Mapping[str, str]:
        """What `benchmarks/peers/shared` reads, and where it is found."""
        return {
            "PYTHONPATH": str(SOURCES / "shared"),
            "PEER_GRAPH": str(self.bundle / "audio.codes.onnx"),
            "PEER_PORT": str(self.port),
            "PEER_ITEMS": str(self.items),
            "PEER_BATCH": str(self.batch),
            "PEER_THREADS": str(self.threads),
        }


@dataclass(frozen=True)
class Peer:
    """A server. `package` is what its version is told by, `arguments` follow the interpreter of its environment.

    Of `wire_forms` it is sent the first one that it takes. `python` is the interpreter that its environment is made
    with; None where it runs in this one.
    """

    name: str
    package: str
    wire_forms: Sequence[WireForm]
    arguments: Callable[[Plan], Sequence[str]]
    python: str | None = sys.executable
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Its server and its `requirements.txt`."""
        return SOURCES / self.name

    def environment(self, plan: Plan) -> dict[str, str]:
        """Of its process."""
        own = {} if self.python is None else plan.environment
        return {**os.environ, **own, **self.settings}


def raw(features: Features, codes: Codes) -> Request:
    """Raw float32 in, raw int64 out."""
    return Request(
        "/inference", features.tobytes(), {"content-type": "application/octet-stream"}, ending=codes.tobytes()
    )


def base64_list(features: Features, codes: Codes) -> Request:
    """JSON with a base64 string an item in, a list of codes an item out."""
    items = [base64.b64encode(item.tobytes()).decode() for item in features]
    right = json.dumps(codes.reshape(len(codes), -1).tolist())
    return Request("/inference", _json({"features": items}), _JSON, ending=right.encode())


def triton_binary(features: Features, codes: Codes) -> Request:
    """The binary tensor extension of the open inference protocol, both ways."""
    data = features.tobytes()
    head = _json(
        {
            "inputs": [
                {
                    "name": "features",
                    "shape": features.shape,
                    "datatype": "FP32",
                    "parameters": {"binary_data_size": len(data)},
                }
            ],
            "outputs": [{"name": "codes", "parameters": {"binary_data": True}}],
        }
    )
    headers = {"content-type": "application/octet-stream", "inference-header-content-length": str(len(head))}
    return Request("/v2/models/codes/infer", head + data, headers, ending=codes.tobytes())


def tessera_raw(features: Features, codes: Codes) -> Request:
    """Features as a raw body, the query says what they are."""
    shape = ",".join(map(str, features.shape if len(features) > 1 else features.shape[1:]))
    path = f"/tokenize?modality=audio&dtype=float32&shape={shape}"
    headers = {"content-type": "application/octet-stream"}
    return Request(path, features.tobytes(), headers, check=partial(holds_codes, codes.tolist()))


def tessera_json(features: Features, codes: Codes) -> Request:
    """Features in base64 within JSON."""
    inputs = [
        {
            "type": "features",
            "modality": "audio",
            "shape": item.shape,
            "data": base64.b64encode(item.tobytes()).decode(),
        }
        for item in features
    ]
    return Request("/tokenize", _json({"inputs": inputs}), _JSON, check=partial(holds_codes, codes.tolist()))


def holds_codes(codes: list[list[list[int]]], body: bytes) -> bool:
    """Whether an answer of Tessera has these codes."""
    return [entry["codes"] for entry in json.loads(body)["data"]] == codes


_JSON = {"content-type": "application/json"}


def _json(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _server(name: str, *more: str) -> Callable[[Plan], Sequence[str]]:
    return lambda plan: [str(SOURCES / name / "server.py"), *(part.format(port=plan.port) for part in more)]


def _tessera(plan: Plan) -> Sequence[str]:
    where = ["--bundle", str(plan.bundle), "--port", str(plan.port), "--threads", str(plan.threads)]
    return ["-m", "tessera", "serve", *where, "--log-level", "error"]


PEERS: Mapping[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer(
            TESSERA,
            "tessera",
            (tessera_raw, tessera_json),
            _tessera,
            python=None,
            settings={"TESSERA_CACHE_BYTES": "0"},
        ),
        Peer(
            "mosec",
            "mosec",
            (raw,),
            _server("mosec", "--port", "{port}", "--timeout", "60000", "--log-level", "error"),
        ),
        Peer("litserve", "litserve", (raw,), _server("litserve")),
        Peer(
            "bentoml",
            "bentoml",
            (base64_list,),
            lambda _: [
                "-m",
                "bentoml",
                "serve",
                "server:Tokenizer",
                "--working-dir",
                str(SOURCES / "bentoml"),
            ],
            settings={"BENTOML_DO_NOT_TRACK": "1"},
        ),
        Peer(
            "ray",
            "ray",
            (raw,),
            _server("ray"),
            settings={
                "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
                "RAY_USAGE_STATS_ENABLED": "0",
                # Its workers are nice to others, and the clients are others.
                "RAY_worker_niceness": "0",
            },
        ),
        # The interpreter that Triton's Python backend was built for is Debian's own.
        Peer("triton", "nvidia-pytriton", (triton_binary,), _server("triton"), python="/usr/bin/python3"),
    )
}
