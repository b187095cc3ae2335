"""What can go wrong between a client and its server; the tree is drawn in `tessera.client`."""

from __future__ import annotations

from dataclasses import dataclass

from tessera.errors import TesseraError


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What is known of a failure: the fields of the server's envelope, and how it was sent.

    `code` is one of the frozen list of the contract; of the client itself are `unreachable`, `connection_lost` and
    `unexpected_answer`. `retry_after` is in seconds.
    """

    code: str
    message: str
    param: str | None = None
    limit: float | None = None
    actual: float | None = None
    setting: str | None = None
    retryable: bool = False
    request_id: str = ""
    status: int | None = None
    retry_after: float | None = None


class TesseraApiError(TesseraError):
    """A request that was not answered as asked. `retryable`: the same request may succeed later."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault
        self.code = fault.code
        self.message = fault.message
        self.param = fault.param
        self.limit = fault.limit
        self.actual = fault.actual
        self.setting = fault.setting
        self.retryable = fault.retryable
        self.request_id = fault.request_id
        self.status = fault.status


class RequestRefused(TesseraApiError):
    """The request or one of its inputs is at fault; the message says which and why."""


class QuotaExceeded(TesseraApiError):
    """The caller's own quota is used up."""


class ServerUnavailable(TesseraApiError):
    """Nobody answers at the address, or the server is starting, full or draining."""


class DeadlineExceeded(TesseraApiError):
    """There was no answer within the time of the request."""


class ServerFault(TesseraApiError):
    """The server failed on a request that may be good."""


class UnexpectedAnswer(TesseraApiError):
    """What answers is no Tessera server, or one of another contract."""


_BY_STATUS: dict[int, type[TesseraApiError]] = {
    429: QuotaExceeded,
    503: ServerUnavailable,
    504: DeadlineExceeded,
}


def error_of_status(status: int, fault: Fault) -> TesseraApiError:
    """The error of an answer with an HTTP `status` that is not 2xx."""
    if kind := _BY_STATUS.get(status):
        return kind(fault)
    if 400 <= status < 500:
        return RequestRefused(fault)
    return ServerFault(fault) if status >= 500 else UnexpectedAnswer(fault)
