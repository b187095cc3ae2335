"""A client of a Tessera server: `Client`, and `AsyncClient` with the same methods.

    with Client("http://localhost:8000") as client:
        bell, sentence = client.tokenize(["bell.wav", Text("a bell rings")])
        for path, codes in client.tokenize_files(Path("sounds").glob("*.wav")):
            ...  # Tokens, or the error of this file

What fails is one tree, and each error has `code`, `message`, `param`, `retryable`, `request_id` and `status`:

TesseraError
└── TesseraApiError            the request was not answered as asked
    ├── RequestRefused         the request or an input of it is at fault; the server says which and why
    ├── QuotaExceeded          the caller asks for too much, until the last try
    ├── ServerUnavailable      nobody answers at the address, or the server is full or draining, until the last try
    ├── DeadlineExceeded       no answer within `timeout`
    ├── ServerFault            the server failed; its log has the request id
    └── UnexpectedAnswer       what answers is no Tessera server, or one of another contract
"""

from __future__ import annotations

from importlib.util import find_spec

if find_spec("httpx") is None:
    raise ImportError("tessera.client needs one more package: pip install 'tessera[client]'")

from tessera.client.answers import Limit, Model, Tokens
from tessera.client.asynchronous import AsyncClient
from tessera.client.errors import (
    DeadlineExceeded,
    QuotaExceeded,
    RequestRefused,
    ServerFault,
    ServerUnavailable,
    TesseraApiError,
    UnexpectedAnswer,
)
from tessera.client.retries import Retries
from tessera.client.sources import Features, Media, Text
from tessera.client.synchronous import Client

__all__ = [
    "AsyncClient",
    "Client",
    "DeadlineExceeded",
    "Features",
    "Limit",
    "Media",
    "Model",
    "QuotaExceeded",
    "RequestRefused",
    "Retries",
    "ServerFault",
    "ServerUnavailable",
    "TesseraApiError",
    "Text",
    "Tokens",
    "UnexpectedAnswer",
]
