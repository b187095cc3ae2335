"""`python -m tests.service.siege.contract --cases 3000`: right and wrong requests, drawn from the OpenAPI document.

Schemathesis draws them, a real server answers, and each answer is compared with what the document says of its status,
its Content-Type and its schema. None is a fault of the server, and none tells of its inside.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import hypothesis
import orjson
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import load_all_checks
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from service.errors import CATALOGUE
from service.openapi import FROZEN
from tests.media_files import clip
from tests.service.inputs import b64
from tests.service.siege.server import Scale, besieged
from tests.service.siege.tally import LEAKS

CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
MEDIA = {"audio": ("wav", "mp3", "opus", "flac", "m4a", "webm"), "video": ("mp4", "vp8", "vp9", "mkv")}
_ACCEPT = (None, "*/*", "application/json", "application/msgpack", "text/html", "x")


def operations() -> list[Any]:
    """Those of the frozen document."""
    load_all_checks()
    for modality, forms in MEDIA.items():
        files = st.sampled_from([clip(form) for form in forms])
        schemathesis.openapi.media_type(f"{modality}/*", files | st.binary(max_size=200))
    document = schemathesis.openapi.from_path(FROZEN)
    return [result.ok() for result in document.get_all_operations()]


@st.composite
def drawn(draw: st.DrawFn, operation: Any) -> Case:
    """A request of `operation`; where it brings media, it is often real."""
    mode = draw(st.sampled_from([GenerationMode.POSITIVE, GenerationMode.NEGATIVE]))
    case: Case = draw(operation.as_strategy(generation_mode=mode))
    if isinstance(case.body, dict):
        for entry in _entries(case.body):
            form = MEDIA.get(str(entry.get("type")))
            if form and draw(st.booleans()):
                entry["data"] = b64(clip(draw(st.sampled_from(form))))
                entry.pop("url", None)
    accept = draw(st.sampled_from(_ACCEPT))
    if accept is not None:
        case.headers = {**(case.headers or {}), "Accept": accept}
    return case


def _entries(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    document = body.get("request", body)
    inputs = document.get("inputs") if isinstance(document, dict) else None
    if isinstance(inputs, list):
        yield from (entry for entry in inputs if isinstance(entry, dict))


def judge(case: Case, response: Any) -> str:
    """`ok` or the code of an answer that is as the document says.

    Raises:
        AssertionError: it is not.
    """
    case.validate_response(response, checks=CHECKS)
    if response.status_code == 200:
        return "ok"
    error = orjson.loads(response.content)["error"]
    assert response.status_code == CATALOGUE[error["code"]].status, error
    assert error["code"] != "internal_error", error
    for leak in LEAKS:
        assert leak.encode() not in response.content, error
    return str(error["code"])


def run(url: str, operation: Any, examples: int, seed: int) -> Counter[str]:
    """So many requests of one operation, and what they came to."""
    said: Counter[str] = Counter()

    with requests.Session() as session:

        @hypothesis.seed(seed)
        @hypothesis.settings(
            max_examples=examples,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        @given(drawn(operation))
        def ask(case: Case) -> None:
            said[judge(case, case.call(base_url=url, session=session, timeout=300))] += 1

        ask()
    return said


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.service.siege.contract", description=__doc__)
    parser.add_argument("--cases", type=int, default=3000, help="of all operations together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bundle", type=Path, help="folder of a bundle; without one, the demo bundle")
    asked = parser.parse_args(arguments)
    every = operations()
    with besieged(asked.bundle, 1) as server:
        scale, said = Scale(server, 1), {}
        for operation in every:
            share = share_of(operation, asked.cases, every)
            said[operation.label] = run(server.url, operation, share, asked.seed)
        faults = [*scale.excess(), *server.faults()]
        figures = {"memory_mb": scale.document(), "faults": faults, "said": said}
    print(orjson.dumps(figures, option=orjson.OPT_INDENT_2).decode())
    raise SystemExit(bool(faults))


def share_of(operation: Any, cases: int, every: Sequence[Any]) -> int:
    """Of `cases`: those that take a body have twenty times as many as others."""
    weights = [20 if each.body else 1 for each in every]
    return max(1, cases * (20 if operation.body else 1) // sum(weights))


if __name__ == "__main__":
    main()
