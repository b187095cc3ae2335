"""The client that blocks."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, assert_never

import httpx
import numpy as np
from numpy.typing import ArrayLike, NDArray

from tessera.client.answers import Limit, Model, Tokens
from tessera.client.calls import DType, Options, TokenizeOptions
from tessera.client.connection import checked_address, connections, sent_headers
from tessera.client.errors import TesseraApiError
from tessera.client.files import Named, batches, progress_bar, tokenize_batch
from tessera.client.flows import Flow, Flows, Run, Send, Step, Wait
from tessera.client.retries import Retries
from tessera.client.sources import Source

Result = TypeVar("Result")


class Client:
    """A Tessera server at `url`; may be used by many threads at once.

    `timeout` is the time of a call in seconds, tries and waits together, where the call does not state its own; the
    server is told what is left of it, and drops what nobody waits for. `headers` go along with every request, and so
    does `api_key`: where it is not given, that of the environment, `TESSERA_API_KEY`.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 120.0,
        retries: Retries | None = None,
        headers: Mapping[str, str] | None = None,
        api_key: str | None = None,
    ) -> None:
        address = checked_address(url)
        self._flows = Flows(address, timeout, retries or Retries())
        self._http = httpx.Client(
            base_url=address, headers=sent_headers(headers, api_key), limits=connections()
        )

    def tokenize(self, inputs: Source | Iterable[Source], **options: Unpack[TokenizeOptions]) -> list[Tokens]:
        """The codes of each input, in order, by one request. Keywords are those of `TokenizeOptions`.

        A string or `Path` is a file, bytes are a file's content; `Media` says more of either, `Text` is a text and
        `Features` are features.

        Raises:
            TesseraApiError: the request was refused, which names every bad input, or not answered.
            OSError: a file cannot be read.
        """
        return self._taken(self._flows.tokenize(inputs, Options(**options)))

    def tokenize_partial(
        self, inputs: Source | Iterable[Source], **options: Unpack[TokenizeOptions]
    ) -> list[Tokens | TesseraApiError]:
        """As `tokenize`, with its error in the place of each bad input."""
        return self._taken(self._flows.tokenize_partial(inputs, Options(**options)))

    def tokenize_files(
        self,
        sources: Iterable[Source],
        *,
        progress: bool = True,
        concurrency: int = 4,
        **options: Unpack[TokenizeOptions],
    ) -> Iterator[Named]:
        """Any number of files, in order: each with its codes, or with the error that it alone has.

        Files are sent in requests as large as the server's `/limits` allow, `concurrency` of them at a time, and read
        only then. The priority is "bulk" unless said otherwise. `timeout` is that of one request.

        Raises:
            TesseraApiError: the server does not tell its limits; nothing was sent then.
        """
        if concurrency < 1:
            raise ValueError("concurrency must be at least 1")
        options.setdefault("priority", "bulk")
        asked = Options(**options)
        limits = self.limits()
        plan = batches(sources, limits)
        pool = ThreadPoolExecutor(concurrency, thread_name_prefix="tessera-client")
        waiting: deque[Future[list[Named]]] = deque()
        try:
            with progress_bar(
                len(sources) if isinstance(sources, Sized) else None, shown=progress
            ) as advance:
                while True:
                    while len(waiting) < 2 * concurrency and (batch := next(plan, None)):
                        flow = tokenize_batch(self._flows, batch, limits, asked)
                        waiting.append(pool.submit(self._taken, flow))
                    if not waiting:
                        return
                    for source, outcome in waiting.popleft().result():
                        advance(outcome)
                        yield source, outcome
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def detokenize(
        self,
        codes: ArrayLike,
        *,
        model: str | None = None,
        dtype: DType = "float32",
        timeout: float | None = None,
    ) -> NDArray[np.float32]:
        """The embeddings [N, Q] of `codes` [N, L].

        Raises:
            TesseraApiError: a code that the model does not have, or no answer.
        """
        return self._taken(self._flows.detokenize(codes, model, dtype, timeout))

    def models(self, *, timeout: float | None = None) -> list[Model]:
        """What is served."""
        return self._taken(self._flows.models(timeout))

    def limits(self, *, timeout: float | None = None) -> dict[str, Limit]:
        """How much the server takes, by name."""
        return self._taken(self._flows.limits(timeout))

    def ready(self, *, timeout: float | None = None) -> bool:
        """Whether a request sent now would be admitted and run. Asks once; a server that is not there is not ready."""
        return self._taken(self._flows.ready(timeout))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _taken(self, flow: Flow[Result]) -> Result:
        answer: Any = None
        while True:
            try:
                step = flow.send(answer)
            except StopIteration as done:
                result: Result = done.value
                return result
            answer = self._take(step)

    def _take(self, step: Step) -> Any:
        match step:
            case Send():
                try:
                    return self._http.request(**step.arguments)
                except httpx.RequestError as error:
                    return error
            case Wait():
                return time.sleep(step.seconds)
            case Run():
                return step.function()
            case _:
                assert_never(step)
