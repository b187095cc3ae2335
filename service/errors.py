"""Everything a client can be told when a request fails: one catalogue, one envelope.

ApiError            an answer of the catalogue, raised anywhere, turned into HTTP in one place
ClientDisconnected  nobody is left to answer
StartError          `tessera serve` cannot start; one sentence for the operator
DeviceLost          `tessera serve` ended because its device died
FrontEndsLost       `tessera serve` ended because its front ends died
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Self, get_args

from tessera.errors import InputError, TesseraError

ErrorType = Literal[
    "authentication_error",
    "invalid_request_error",
    "not_found_error",
    "permission_error",
    "rate_limit_error",
    "server_error",
]
ErrorCode = Literal[
    "body_too_large",
    "code_out_of_range",
    "deadline_exceeded",
    "device_lost",
    "empty_input",
    "forbidden",
    "internal_error",
    "invalid_value",
    "malformed_body",
    "media_corrupt",
    "media_too_large",
    "media_too_long",
    "method_not_allowed",
    "missing_track",
    "model_not_found",
    "not_found",
    "not_ready",
    "overloaded",
    "rate_limited",
    "shutting_down",
    "text_too_long",
    "too_many_inputs",
    "too_many_segments",
    "unauthorized",
    "unsupported_content_encoding",
    "unsupported_content_type",
    "unsupported_media",
    "url_inputs_disabled",
    "url_not_allowed",
    "url_not_fetched",
]


class ErrorSpec(NamedTuple):
    """How one code is answered; `retry_after` is in seconds."""

    status: int
    type: ErrorType
    meaning: str
    retryable: bool = False
    retry_after: int | None = None


CATALOGUE: dict[ErrorCode, ErrorSpec] = {
    "malformed_body": ErrorSpec(
        400, "invalid_request_error", "The body cannot be read as what it claims to be."
    ),
    "unauthorized": ErrorSpec(401, "authentication_error", "No key of this server came along."),
    "forbidden": ErrorSpec(403, "permission_error", "The key lacks the scope that this needs."),
    "url_not_allowed": ErrorSpec(
        403, "permission_error", "This server does not fetch from there; send the bytes."
    ),
    "url_inputs_disabled": ErrorSpec(403, "permission_error", "This server fetches no URLs; send the bytes."),
    "model_not_found": ErrorSpec(404, "not_found_error", "No model of this name is served here."),
    "not_found": ErrorSpec(404, "not_found_error", "There is no such path."),
    "method_not_allowed": ErrorSpec(405, "invalid_request_error", "The path does not take this method."),
    "body_too_large": ErrorSpec(
        413, "invalid_request_error", "The body has more bytes than the server takes."
    ),
    "media_too_large": ErrorSpec(
        413, "invalid_request_error", "Bytes, pixels, frames or streams over a limit."
    ),
    "media_too_long": ErrorSpec(413, "invalid_request_error", "More seconds than the limit."),
    "text_too_long": ErrorSpec(413, "invalid_request_error", "More characters than the limit."),
    "too_many_inputs": ErrorSpec(413, "invalid_request_error", "More inputs than one request may hold."),
    "too_many_segments": ErrorSpec(413, "invalid_request_error", "More segments than one request may hold."),
    "unsupported_content_encoding": ErrorSpec(
        415, "invalid_request_error", "Compressed bodies are not read."
    ),
    "unsupported_content_type": ErrorSpec(
        415, "invalid_request_error", "A Content-Type that is not read here."
    ),
    "unsupported_media": ErrorSpec(
        415, "invalid_request_error", "Not a container or codec that is read here."
    ),
    "code_out_of_range": ErrorSpec(422, "invalid_request_error", "A code that the codebook does not have."),
    "empty_input": ErrorSpec(422, "invalid_request_error", "An input without media, words or segments."),
    "invalid_value": ErrorSpec(422, "invalid_request_error", "A field or a header that is missing or wrong."),
    "media_corrupt": ErrorSpec(422, "invalid_request_error", "Media that cannot be decoded."),
    "missing_track": ErrorSpec(422, "invalid_request_error", "Media without the track that was asked for."),
    "url_not_fetched": ErrorSpec(422, "invalid_request_error", "The URL did not give a file in time."),
    "rate_limited": ErrorSpec(
        429, "rate_limit_error", "The caller's own quota is used; it is earned back.", True, 1
    ),
    "internal_error": ErrorSpec(500, "server_error", "A fault of the server; report the request id."),
    "device_lost": ErrorSpec(
        503, "server_error", "The device stopped working; another replica may answer.", True, 5
    ),
    "not_ready": ErrorSpec(503, "server_error", "The server is starting, draining or full.", True, 1),
    "overloaded": ErrorSpec(503, "server_error", "The queue is full.", True, 1),
    "shutting_down": ErrorSpec(
        503, "server_error", "The server is draining; another replica will answer.", True, 1
    ),
    "deadline_exceeded": ErrorSpec(504, "server_error", "No answer within the request's time.", True),
}

assert set(CATALOGUE) == set(get_args(ErrorCode)), "every code has one entry. This is a bug."


_NO_HEADERS: Mapping[str, str] = {}


class ApiError(Exception):
    """An answer of the catalogue. `param` is the field at fault; `setting` names the knob of `limit`.

    `retry_after` is in seconds, where more is known than the catalogue says; `headers` go along with the answer.
    """

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        param: str | None = None,
        limit: float | None = None,
        actual: float | None = None,
        setting: str | None = None,
        retry_after: int | None = None,
        headers: Mapping[str, str] = _NO_HEADERS,
    ) -> None:
        super().__init__(message)
        self.code: ErrorCode = code
        self.message = message
        self.param = param
        self.limit = limit
        self.actual = actual
        self.setting = setting
        self.retry_after = retry_after
        self.headers = headers

    @property
    def spec(self) -> ErrorSpec:
        """How this code is answered."""
        return CATALOGUE[self.code]

    @classmethod
    def of_input(cls, error: InputError, param: str) -> Self:
        """What `tessera` says of the field `param`."""
        return cls(
            error.code,
            error.message,
            param=param,
            limit=error.limit,
            actual=error.actual,
            setting=error.setting,
        )

    @classmethod
    def internal(cls) -> Self:
        """The answer to a fault of ours: it says nothing of it."""
        return cls("internal_error", "the server failed on this; the request id finds it in the server's log")

    def at(self, place: str) -> Self:
        """The same error, said of the part of the request at `place`, such as `inputs[3]`."""
        param = place if self.param is None else f"{place}.{self.param}"
        return type(self)(
            self.code,
            f"{place}: {self.message}",
            param=param,
            limit=self.limit,
            actual=self.actual,
            setting=self.setting,
            retry_after=self.retry_after,
        )

    def document(self, request_id: str) -> dict[str, Any]:
        """The fields of the envelope."""
        return {
            "code": self.code,
            "type": self.spec.type,
            "message": self.message,
            "param": self.param,
            "limit": self.limit,
            "actual": self.actual,
            "setting": self.setting,
            "retryable": self.spec.retryable,
            "request_id": request_id,
        }


class ClientDisconnected(Exception):
    """The client went away before it was answered."""


class StartError(TesseraError):
    """The server cannot start; the message says what to change."""


class DeviceLost(TesseraError):
    """A device died under a server, which ended so that another is started in its place."""


class FrontEndsLost(TesseraError):
    """A front end died again and again."""


def combined(errors: Sequence[ApiError]) -> ApiError:
    """One error that names every fault of a request, with the code of the first, or of our own."""
    lead = max(errors, key=lambda error: error.spec.status >= 500)
    return ApiError(
        lead.code,
        "; ".join(error.message for error in errors),
        param=lead.param,
        limit=lead.limit,
        actual=lead.actual,
        setting=lead.setting,
        retry_after=lead.retry_after,
    )
