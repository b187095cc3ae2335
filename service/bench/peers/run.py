"""The comparison: each cost and size of request in turn, Tessera first and last, the others between."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

from service.bench.bare import best_rate
from service.bench.graphs_of_cost import write_bundle
from service.bench.load import LoadProcess, LoadResult, Request
from service.bench.peers.catalogue import PEERS, TESSERA, Peer, Plan
from service.bench.peers.environments import (
    PeerFailed,
    default_cache,
    installed_version,
    interpreter,
    require_sources,
)
from service.bench.peers.measure import SHARE, Measured, Meter
from service.bench.peers.payload import Payload, make_payload
from service.bench.peers.running import free_port, running
from service.bench.server import Server
from tessera.bundle import Bundle
from tessera.errors import TesseraError
from tessera.tokenizer import Tokenizer

CORES = 2
ITEMS = (1, 32)
ITEM_MS = (0.1, 1.0, 10.0)
BATCH = 64
"""Items that a server may run at once."""

IN_FLIGHT = {1: 2 * BATCH, 32: 8}
"""Requests at saturation, by the items of each: one batch runs while the next is there."""

_REQUESTS = {1: 64, 32: 8}
_BARE_SEC = 3.0


@dataclass(frozen=True)
class Case:
    """One cost and size of request. `bare` is items a second through the graph alone."""

    item_ms: float
    bundle: Bundle
    payload: Payload
    bare: float


@dataclass
class Turns:
    """What came of a case: Tessera's two turns, each peer's, and Tessera's at the rate that a peer was asked."""

    case: Case
    own: list[Measured] = field(default_factory=list)
    peers: dict[str, Measured] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    same_rate: dict[str, LoadResult] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """All cases, and the version of each server that is there."""

    turns: list[Turns]
    versions: dict[str, str]
    facts: dict[str, Any]


def compare(names: Sequence[str], item_ms: Sequence[float], seconds: float, console: Console) -> Comparison:
    """Measure Tessera and the peers `names`, everything on the same two cores; `seconds` are spent on a point.

    A server that cannot be installed, does not start or answers wrongly is in the result with its reason.

    Raises:
        TesseraError: this is no checkout.
    """
    require_sources()
    began = time.perf_counter()
    pythons, failed = _environments(names, console)
    versions = {name: installed_version(pythons[name], PEERS[name].package) for name in pythons}
    with (
        _pinned() as cores,
        tempfile.TemporaryDirectory(prefix="tessera-peers-") as work,
        LoadProcess() as load,
    ):
        bench = _Bench(pythons, failed, load, seconds, console)
        turns = [bench.take_turns(case) for case in _cases(Path(work), item_ms, console)]
    facts = {
        "cores": cores,
        "seconds_per_point": seconds,
        "share_of_saturation": SHARE,
        "in_flight": {f"{items} items": requests for items, requests in IN_FLIGHT.items()},
        "batch_items": BATCH,
        "minutes": round((time.perf_counter() - began) / 60, 1),
        "load_average": [round(value, 1) for value in os.getloadavg()],
    }
    return Comparison(turns, versions, facts)


@contextmanager
def _pinned() -> Iterator[list[int]]:
    """This process, and with it the servers and the clients that it starts, stays on the first CORES of its cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:CORES])
    try:
        yield sorted(os.sched_getaffinity(0))
    finally:
        os.sched_setaffinity(0, before)


def _environments(names: Sequence[str], console: Console) -> tuple[dict[str, Path], dict[str, str]]:
    pythons, failed = {}, {}
    for name in (TESSERA, *names):
        console.print(f"environment of {name} ...", style="dim")
        try:
            pythons[name] = interpreter(PEERS[name], default_cache())
        except PeerFailed as failure:
            failed[name] = f"cannot be installed: {failure}"
            console.print(f"  {name} {failed[name]}", style="red", markup=False)
    return pythons, failed


def _cases(work: Path, item_ms: Sequence[float], console: Console) -> Iterator[Case]:
    for cost in item_ms:
        tokenizer = Tokenizer.load(write_bundle(work / f"{cost:g}", cost))
        for items in ITEMS:
            payload = make_payload(tokenizer.bundle, _REQUESTS[items], items)
            windows = list(tokenizer.open_features("audio", payload.features[0, 0]))
            bare, size = best_rate(tokenizer.bundle, windows, _BARE_SEC)
            console.print(
                f"{cost:g} ms, {items} in a request: the bare graph does {bare:.0f} items/s, {size} in a batch"
            )
            yield Case(cost, tokenizer.bundle, payload, bare)


class _Bench:
    def __init__(
        self,
        pythons: dict[str, Path],
        failed: dict[str, str],
        load: LoadProcess,
        seconds: float,
        console: Console,
    ) -> None:
        self._pythons, self._failed = pythons, failed
        self._load, self._seconds, self._console = load, seconds, console

    def take_turns(self, case: Case) -> Turns:
        """Tessera, each peer, Tessera: what the machine does meanwhile shows between its two turns."""
        turns = Turns(case, failed=dict(self._failed))
        for name in (TESSERA, *(name for name in self._pythons if name != TESSERA), TESSERA):
            try:
                self._turn(turns, PEERS[name])
            except (PeerFailed, psutil.NoSuchProcess) as failure:
                turns.failed[name] = str(failure)
                self._console.print(f"  {name} failed: {failure}", style="red", markup=False)
        return turns

    def _turn(self, turns: Turns, peer: Peer) -> None:
        case = turns.case
        with self._meter(peer, case) as meter:
            measured = meter.measure(IN_FLIGHT[case.payload.items])
            self._say(peer.name, case, measured)
            if peer.name != TESSERA:
                turns.peers[peer.name] = measured
                return
            turns.own.append(measured)
            for name, other in turns.peers.items():
                if SHARE * other.rate < measured.rate:
                    turns.same_rate[name] = meter.at(SHARE * other.rate)

    @contextmanager
    def _meter(self, peer: Peer, case: Case) -> Iterator[Meter]:
        items = case.payload.items
        sets = [case.payload.requests(form) for form in peer.wire_forms]
        plan = Plan(case.bundle.folder, free_port(), items, BATCH, CORES)
        probes = [requests[0] for requests in sets]
        with running(peer, self._pythons[peer.name], plan, probes) as (server, taken):
            requests = [_with_ending(server, request) for request in sets[taken]]
            form = peer.wire_forms[taken].__name__
            yield Meter(self._load, server, requests, items=items, form=form, seconds=self._seconds)

    def _say(self, name: str, case: Case, measured: Measured) -> None:
        items = case.payload.items
        self._console.print(
            f"  {name} ({measured.form}): {items * measured.rate:.0f} items/s, "
            f"p99 {measured.quantiles['p99']:.1f} ms at {SHARE:.0%}, {measured.cpu_us:.0f} us an item, "
            f"ready in {measured.ready_sec:.1f} s",
            style="dim",
        )


def _with_ending(server: Server, request: Request) -> Request:
    """The request with the end of its right answer, so that every answer is checked and not one of fifty."""
    if request.ending:
        return request
    try:
        return server.accepted(request) or request
    except TesseraError as error:
        raise PeerFailed(str(error)) from None
