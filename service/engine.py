"""From parsed inputs to codes: admission, decoding, the device, and what became of each input."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

from service.admission import Lease
from service.cache.cache import CodesCache
from service.costs import Cost
from service.decoding.reading import Decoding, Reader
from service.errors import ApiError
from service.inputs import is_light, media_modality, open_clip, source_field
from service.jobs import Answer, Block
from service.metrics import Metrics
from service.read_ahead import ReadAhead
from service.ready import FeatureArray, ReadyClips
from service.request import EngineRequest, Item, Outcome, Terms, clips_of
from service.schemas import AudioInput, FeaturesInput, TextInput, VideoInput
from service.serving import Served
from service.settings import Settings
from service.trace import Timings
from tessera.clips import ReadyClip
from tessera.codes import Codes
from tessera.errors import InputError
from tessera.windows import Modality, WindowCodes

_log = logging.getLogger(__name__)


class Engine:
    """Models behind their queues: everything of the service that is not HTTP."""

    def __init__(
        self,
        models: Sequence[Served],
        settings: Settings,
        metrics: Metrics,
        *,
        decoding: Decoding,
        open_media: int | None = None,
        cache: CodesCache | None = None,
    ) -> None:
        """The first of `models` is the default. `open_media` is that of the settings, or a share."""
        self.models = {model.name: model for model in models}
        self.default = models[0]
        self.settings = settings
        self.metrics = metrics
        self.draining = False
        self.devices = list(dict.fromkeys(model.device for model in models))
        self.admissions = list(dict.fromkeys(model.admission for model in models))
        self._decoding = decoding
        metrics.watch_decoders(decoding)
        self._cache = cache
        self._threads = ThreadPoolExecutor(settings.workers, thread_name_prefix="open")
        self._open_media = asyncio.Semaphore(open_media or settings.max_open_media)

    def start(self) -> None:
        """Start the devices; ready once a real batch of each modality ran through its graphs."""
        self._decoding.start()
        for device in self.devices:
            device.start()

    async def close(self) -> None:
        """Finish what was admitted."""
        self.stop_admission()
        await asyncio.gather(*(device.close(self.settings.drain_seconds) for device in self.devices))
        await self._decoding.close()
        if self._cache is not None:
            await self._cache.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def stop_admission(self) -> None:
        """Refuse every request that was not admitted yet."""
        self.draining = True
        for admission in self.admissions:
            admission.closed = True

    @property
    def warm(self) -> bool:
        """Whether a real batch of each model ran."""
        return all(device.warm for device in self.devices)

    @property
    def alive(self) -> bool:
        """Whether every device answers."""
        return all(device.alive for device in self.devices)

    @property
    def ready(self) -> bool:
        """A real batch ran, the devices live, the queues accept and nobody asked the server to stop."""
        accepts = all(admission.accepts for admission in self.admissions)
        return self.warm and self.alive and accepts and not self.draining

    def model(self, name: str | None) -> Served:
        """The model of this name; the default without one.

        Raises:
            ApiError: `model_not_found`: nothing is answered by another model than the one that was asked for.
        """
        model = self.default if name is None else self.models.get(name)
        if model is None:
            known = ", ".join(f"'{each}'" for each in self.models)
            raise ApiError("model_not_found", f"the models served here: {known}", param="model")
        return model

    async def tokenize(
        self, model: Served, items: Sequence[Item | ApiError], terms: Terms, timings: Timings
    ) -> list[Outcome]:
        """The codes of each clip, or the error of an input, which never touches another.

        Raises:
            ApiError: the request is not admitted, or has too many segments.
        """
        request, places = EngineRequest(model, terms, timings), dict(enumerate(items))
        if self._cache is None:
            outcomes = await self._computed(request, places)
        else:
            compute = partial(self._computed, request)
            outcomes = await self._cache.outcomes(model, places, terms, timings, compute, self._threads)
        return [_placed(outcome, index) for index in places for outcome in outcomes[index]]

    async def _computed(
        self, request: EngineRequest, items: Mapping[int, Item | ApiError]
    ) -> dict[int, list[Outcome]]:
        """What becomes of `items`, by their place in the request; errors do not say it yet."""
        model = request.model
        ready: dict[int, ReadyClips] = {}
        media: dict[int, AudioInput | VideoInput] = {}
        outcomes: dict[int, list[Outcome]] = {}
        cost, segments = Cost(), 0
        for index, item in items.items():
            opened = await self._opened(request, index, item)
            if isinstance(opened, ReadyClips):
                ready[index] = opened
                cost = cost.plus(model.cost_of(opened))
                segments += opened.segments
            elif isinstance(opened, ApiError):
                outcomes[index] = [opened] * clips_of([item])
            else:
                media[index] = opened
                cost = cost.plus(model.window_cost(media_modality(opened)))
        with model.admission.admit(cost, request.terms.seconds_left) as lease:
            lease.count(segments)
            request.timings.segments += segments
            work = [self._tokenize_media(request, index, item, lease) for index, item in media.items()]
            if ready:
                work.append(_tokenize_ready(request, ready))
            # A task for each is needed only where there are several.
            for done in [await work[0]] if len(work) == 1 else await asyncio.gather(*work):
                outcomes |= done
        return outcomes

    async def _opened(
        self, request: EngineRequest, index: int, item: Item | ApiError
    ) -> ReadyClips | AudioInput | VideoInput | ApiError:
        """`item`, opened if that needs no decoding; or what is wrong with it."""
        if isinstance(item, ApiError | AudioInput | VideoInput):
            return item
        started = time.perf_counter()
        try:
            if is_light(item):
                return _open_ready(request, item)
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, _open_ready, request, item)
        except InputError as error:
            return ApiError.of_input(error, source_field(item))
        except ApiError as error:
            return error
        finally:
            request.timings.took("decode", started, index)

    async def _tokenize_media(
        self, request: EngineRequest, index: int, item: AudioInput | VideoInput, lease: Lease
    ) -> dict[int, list[Outcome]]:
        arrived = time.perf_counter()
        request = replace(request, place=index)
        try:
            async with self._open_media:
                request.timings.took("queue", arrived, index)
                return {index: [await self._encode(request, item, lease)]}
        except InputError as error:
            return {index: [ApiError.of_input(error, source_field(item))]}
        except ApiError as error:
            return {index: [error]}
        except Exception as error:
            return {index: [_internal(index, error)]}

    async def _encode(self, request: EngineRequest, item: AudioInput | VideoInput, lease: Lease) -> Codes:
        opener, timings = request.model.opener, request.timings
        reader = self._decoding.reader(opener, item, request.terms.truncate)
        try:
            codes = await self._stream(request, reader, media_modality(item), lease)
        finally:
            timings.decode += reader.decode_sec
            timings.queue += reader.wait_sec
            reader.close()
        return opener.assemble(reader.clip, codes)

    async def _stream(
        self, request: EngineRequest, reader: Reader, modality: Modality, lease: Lease
    ) -> list[WindowCodes]:
        """Run a clip part by part, decoding the next while one runs, as far as there is room for both."""
        codes: list[WindowCodes] = []
        running: asyncio.Future[Answer] | None = None
        ahead = ReadAhead(lease, request.model.window_cost(modality), self.settings.max_stream_windows)
        try:
            while not reader.ended:
                part = await request.read(reader, ahead.count)
                segments = sum(window.segments for window in part)
                lease.count(segments)
                request.timings.segments += segments
                if running is not None:
                    codes += _windows(await request.received(running))
                running = request.submit([Block.of(window) for window in part]) if part else None
                if running is not None and not (reader.ended or ahead.grow()):
                    codes += _windows(await request.received(running))
                    running = None
            return codes if running is None else codes + _windows(await request.received(running))
        finally:
            ahead.release()
            if running is not None:
                running.cancel()


async def _tokenize_ready(
    request: EngineRequest, ready: Mapping[int, ReadyClips]
) -> dict[int, list[Outcome]]:
    """All clips that need no decoding in one job."""
    running = request.submit([block for clips in ready.values() for block in clips.blocks])
    try:
        answer = await request.received(running)
    except ApiError as error:
        return {index: [error] * clips.count for index, clips in ready.items()}
    finally:
        running.cancel()
    outcomes: dict[int, list[Outcome]] = {}
    blocks = iter(answer.blocks)
    for index, clips in ready.items():
        codes = clips.codes(request.model.opener, [next(blocks) for _ in clips.blocks])
        outcomes[index] = [_internal(index, each) if isinstance(each, Exception) else each for each in codes]
    return outcomes


def _open_ready(request: EngineRequest, item: TextInput | FeaturesInput | FeatureArray) -> ReadyClips:
    opener = request.model.opener
    if isinstance(item, FeatureArray):
        return ReadyClips.of_array(opener, item)
    clip = open_clip(opener, item, request.terms.truncate)
    assert isinstance(clip, ReadyClip), "texts and features need no decoding. This is a bug."
    return ReadyClips.of_clip(clip)


def _windows(answer: Answer) -> list[WindowCodes]:
    """Those of blocks of one window each.

    Raises:
        Exception: what the graphs said of one that they cannot run.
    """
    for block in answer.blocks:
        for failure in block.failures.values():
            raise failure
    return [WindowCodes.of(block.outputs, 0) for block in answer.blocks]


def _placed(outcome: Outcome, index: int) -> Outcome:
    return outcome.at(f"inputs[{index}]") if isinstance(outcome, ApiError) else outcome


def _internal(index: int, error: Exception) -> ApiError:
    _log.error("inputs[%d] failed", index, exc_info=error)
    return ApiError.internal()
