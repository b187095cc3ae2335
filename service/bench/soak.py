"""`tessera bench soak`: inputs of every kind and many shapes for a long time, and whether memory grows."""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from rich.console import Console
from rich.table import Table

from service.bench.cases import Codes, has_codes
from service.bench.document import publish
from service.bench.load import Closed, Load, LoadProcess, Open, Request
from service.bench.media import mp4, wav
from service.bench.memory import MemoryWatch
from service.bench.plots import plot_memory
from service.bench.server import server
from tessera.codes import Encoding
from tessera.errors import TesseraError
from tessera.tokenizer import Tokenizer

_VARIANTS = 12
_REQUESTS = 60
_MOST_ITEMS = 4
_IN_FLIGHT = 16
_WORDS = ("rain", "falls", "on", "an", "old", "roof", "while", "dogs", "bark", "and", "engines", "idle")


def run_soak(
    bundle: str | None, *, minutes: float, share: float, out: Path | None, plot: Path | None
) -> None:
    """Measure, print, write to `out`, and draw the memory to `plot`; `share` of the capacity is asked for.

    Raises:
        BundleError: the bundle is none.
        TesseraError: the server did not start, or an answer was wrong.
    """
    tokenizer = Tokenizer.load(bundle)
    with LoadProcess() as load, server(str(tokenizer.bundle.folder)) as running:
        requests = [r for r in map(running.accepted, _requests(tokenizer)) if r is not None]
        Console(stderr=True).print("measuring the capacity", style="dim")
        most = load.run(Load(running.url, requests, Closed(_IN_FLIGHT, min(10.0, 30 * minutes))))
        rate = share * most.rate
        Console(stderr=True).print(f"{rate:.0f} requests a second for {minutes:g} minutes", style="dim")
        with MemoryWatch(running) as memory:
            result = load.run(Load(running.url, requests, Open(rate, 60 * minutes), patience=120))
        if most.wrong or result.wrong:
            raise TesseraError(f"the server answered wrongly: {most.sample or result.sample}")
    facts = {
        "model": tokenizer.manifest.name,
        "minutes": minutes,
        "different_requests": len(requests),
        "capacity_requests_per_second": round(most.rate, 1),
        "share": share,
        "memory": memory.document(),
    }
    figures = [result.document()]
    publish("soak", facts, figures, _table(facts, figures[0]), out)
    if plot is not None:
        plot_memory(memory.samples, f"{share:.0%} of the capacity, varied inputs", plot)


def _requests(tokenizer: Tokenizer) -> list[Request]:
    """Requests of one to four inputs of any kind; the same every time."""
    draw = random.Random(0)
    inputs = [pair for kind in _kinds(tokenizer, draw) for pair in kind]
    requests = []
    for _ in range(_REQUESTS):
        chosen = draw.sample(inputs, draw.randint(1, _MOST_ITEMS))
        requests.append(
            Request(
                "/tokenize",
                orjson.dumps({"inputs": [entry for entry, _ in chosen]}),
                {"content-type": "application/json"},
                check=partial(has_codes, codes=[codes for _, codes in chosen]),
            )
        )
    return requests


def _kinds(tokenizer: Tokenizer, draw: random.Random) -> Iterator[list[tuple[dict[str, Any], Codes]]]:
    """Inputs with their codes, as many of each kind, in shapes that are drawn."""
    for modality in tokenizer.modalities:
        if modality == "text":
            texts = [" ".join(draw.choices(_WORDS, k=draw.randint(1, 30))) for _ in range(_VARIANTS)]
            yield [({"type": "text", "text": t}, _codes(tokenizer.encode_text(t))) for t in texts]
        else:
            files = [_file(modality, draw) for _ in range(_VARIANTS)]
            yield [
                ({"type": modality, "data": _base64(file)}, _codes(tokenizer.encode(file, modality)))
                for file in files
            ]
        features = []
        for number in range(_VARIANTS):
            shape = (draw.randint(1, 40), *tokenizer.feature_shape(modality))
            array = np.random.default_rng(number).normal(size=shape).astype("<f4")
            entry = {"type": "features", "modality": modality, "shape": shape}
            codes = _codes(tokenizer.encode_features(modality, array))
            features.append(({**entry, "data": _base64(array.tobytes())}, codes))
        yield features


def _file(modality: str, draw: random.Random) -> bytes:
    if modality == "audio":
        return wav(draw.uniform(0.5, 30))
    return mp4(draw.uniform(0.5, 8), width=16 * draw.randint(4, 24), height=16 * draw.randint(4, 18))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _codes(encoding: Encoding) -> Codes:
    codes: Codes = encoding.codes.tolist()
    return codes


def _table(facts: dict[str, Any], figures: dict[str, Any]) -> Table:
    table = Table(
        title=f"{facts['share']:.0%} of the capacity for {facts['minutes']:g} minutes", show_header=False
    )
    memory = facts["memory"]
    rows = {
        "requests": figures["requests"],
        "statuses": figures["statuses"],
        "p50, p99 ms": f"{figures['latency_ms'].get('p50')} {figures['latency_ms'].get('p99')}",
        "memory first, settled, last, MB": "{first_mb} {settled_mb} {last_mb}".format(**memory),
        "slope, MB an hour": "{slope_mb_per_hour} ± {slope_error_mb_per_hour}".format(**memory),
    }
    for name, value in rows.items():
        table.add_row(name, str(value))
    return table
