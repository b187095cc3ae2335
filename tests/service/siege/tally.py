"""What became of every request, and what should not have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

from service.errors import ErrorCode
from tests.service.siege.requests import Request
from tests.service.siege.wire import Answer

LEAKS = (
    *("Traceback", "/home", "/usr", "/tmp", "/work", ".py", "site-packages", "pydantic", "starlette"),
    *("uvicorn", "Errno", "av.error", "libav", "ffmpeg", "FFmpeg", "onnx", "object at 0x"),
)
"""What no answer says of the server's inside; `GET /metrics` is read by its owner, and may."""


@dataclass
class Tally:
    """Counts of what became of requests by what they were; `violations` is empty when the server kept its word."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def judge(
        self,
        request: Request,
        answers: list[Answer],
        *,
        also: Collection[ErrorCode] = (),
        unanswered: bool = False,
    ) -> None:
        """Count what became of `request`; `also` are refusals that this hour of the siege allows."""
        if not answers:
            expected = request.answers == 0 or request.may_go_unanswered or unanswered
            self._count(request, "no answer", None if expected else "no answer")
        elif len(answers) != request.answers:
            self._count(request, "wrong", f"{len(answers)} answers, not {request.answers}")
        else:
            for answer in answers:
                said, fault = _verdict(request, answer, {"overloaded", *also})
                self._count(request, said, fault)

    def fail(self, request: Request, fault: str) -> None:
        """Count a request that should not have gone so."""
        self._count(request, "wrong", fault)

    @property
    def requests(self) -> int:
        """How many were judged."""
        return sum(self.counts.values())

    def totals(self) -> Counter[str]:
        """How many came to what, whatever they were."""
        totals: Counter[str] = Counter()
        for (_, said), count in self.counts.items():
            totals[said] += count
        return totals

    def _count(self, request: Request, said: str, fault: str | None) -> None:
        self.counts[request.kind, said] += 1
        if fault is not None:
            self.violations.append(f"{request.kind}: {fault}")


def _verdict(request: Request, answer: Answer, also: Collection[str]) -> tuple[str, str | None]:
    """What the answer is, and what is wrong with it."""
    leaked = [leak for leak in LEAKS if leak.encode() in answer.body and answer.body.startswith(b'{"error"')]
    if leaked:
        return "wrong", f"an answer that says {leaked}"
    if answer.status == 200:
        right = request.right is not None and request.right(answer)
        return ("right", None) if right else ("wrong", f"200 {answer.body[:200]!r}")
    try:
        code = answer.code
    except ValueError as error:
        return "wrong", f"{answer.status} {answer.body[:200]!r}: {error}"
    fits = code in request.refusals or code in also
    return code, None if fits else f"{answer.status} {answer.body[:300]!r}"
