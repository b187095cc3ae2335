"""What front ends and the owner of the device say to each other, as bytes: a header of fixed size, then blocks.

    header  magic, kind, lane, full, model, count, job, length of what follows, two times in seconds
    job     count x block:   modality, stage, arrays, segments; arrays x array
    answer  count x block:   arrays, failures; arrays x array; failures x (row, code, text)
            when it was submitted; as many pairs of times as the header has models, when its batches ran
    failure one (row, code, text)
    array   dtype, axes, length of the name; the axes; the name; values

Numbers are little-endian. Values begin and end at multiples of sixteen bytes from the start of the frame, so
that arrays are read where they lie. Nothing is ever unpickled.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import chain
from typing import Any, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from service.errors import CATALOGUE, ApiError, ErrorCode
from service.jobs import Answer, Block, BlockAnswer, Lane
from tessera.windows import MODALITIES, Stage

LARGEST = 2**32
"""Bytes of a frame: what a queue may hold is far less."""

_MAGIC = b"TSF1"
_HEADER = struct.Struct("<4sBBBxIIQQdd")
_BLOCK = struct.Struct("<BBHI")
_ANSWER = struct.Struct("<HHI")
_ARRAY = struct.Struct("<cBBx")
_ERROR = struct.Struct("<IHxxI")
_ALIGNMENT = 16
_STAGES: tuple[Stage, ...] = get_args(Stage)
_LANES: tuple[Lane, ...] = get_args(Lane)
_CODES: tuple[ErrorCode, ...] = tuple(sorted(CATALOGUE))
_DTYPES = b"?bBhHiIlLqQefd"

HEADER_BYTES = _HEADER.size


class MalformedFrame(Exception):
    """Bytes that are no frame."""


class RemoteFailure(Exception):
    """What the owner's graphs said of a window, as text for the log of the front end."""


class Kind(IntEnum):
    """What a frame is about."""

    JOB = 1
    CANCEL = 2
    ANSWER = 3
    FAILURE = 4
    ASK = 5  # for metrics
    TEXT = 6
    LISTENING = 7


@dataclass(frozen=True, slots=True, eq=False)
class JobFrame:
    """Work for model number `model`; `seconds_left` may be infinite."""

    job: int
    model: int
    lane: Lane
    full: bool
    seconds_left: float
    blocks: Sequence[Block]


@dataclass(frozen=True, slots=True, eq=False)
class AnswerFrame:
    """What became of a job."""

    job: int
    answer: Answer


@dataclass(frozen=True, slots=True, eq=False)
class FailureFrame:
    """A job has no answer."""

    job: int
    error: ApiError


@dataclass(frozen=True, slots=True)
class PlainFrame:
    """All others: a kind, the number of a job or a question, and some bytes."""

    kind: Kind
    job: int = 0
    text: bytes = b""


Frame = JobFrame | AnswerFrame | FailureFrame | PlainFrame


class _Header(NamedTuple):
    magic: bytes
    kind: int
    lane: int
    full: int
    model: int
    blocks: int
    job: int
    length: int
    first_sec: float
    second_sec: float


def frame_bytes(header: bytes | bytearray | memoryview) -> int:
    """How long a frame is, header and all, that begins with `header`.

    Raises:
        MalformedFrame: none begins so.
    """
    magic, *_, length, _, _ = _HEADER.unpack_from(header)
    if magic != _MAGIC or length > LARGEST:
        raise MalformedFrame("this is not the beginning of a frame")
    return HEADER_BYTES + int(length)


def encoded(frame: Frame) -> list[bytes | memoryview]:
    """The frame in parts; arrays are not copied."""
    parts = _Parts()
    kind, lane, full, model, count, times = Kind.FAILURE, 0, False, 0, 0, (0.0, 0.0)
    if isinstance(frame, JobFrame):
        kind, lane, full, model = Kind.JOB, _LANES.index(frame.lane), frame.full, frame.model
        count, times = len(frame.blocks), (frame.seconds_left, 0.0)
        for block in frame.blocks:
            place = MODALITIES.index(block.modality), _STAGES.index(block.stage)
            parts.add(_BLOCK.pack(*place, len(block.inputs), block.segments))
            parts.add_arrays(block.inputs)
    elif isinstance(frame, AnswerFrame):
        answer = frame.answer
        kind, count, times = Kind.ANSWER, len(answer.blocks), (answer.queue_sec, answer.infer_sec)
        for each in answer.blocks:
            parts.add(_ANSWER.pack(len(each.outputs), 0, len(each.failures)))
            parts.add_arrays(each.outputs)
            for row, error in each.failures.items():
                parts.add_error(row, error)
        model = len(answer.runs)
        parts.add(np.array([answer.submitted, *chain(*answer.runs)], "<f8").tobytes())
    elif isinstance(frame, FailureFrame):
        parts.add_error(0, frame.error)
    else:
        kind = frame.kind
        parts.add(frame.text)
    header = _HEADER.pack(_MAGIC, kind, lane, full, model, count, frame.job, parts.length, *times)
    return [header, *parts.parts]


class _Parts:
    """The bytes behind a header."""

    def __init__(self) -> None:
        self.parts: list[bytes | memoryview] = []
        self.length = 0

    def add(self, part: bytes | memoryview) -> None:
        """Add some."""
        self.parts.append(part)
        self.length += part.nbytes if isinstance(part, memoryview) else len(part)

    def add_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Add arrays with their names."""
        for name, array in arrays.items():
            label = name.encode()
            head = _ARRAY.pack(array.dtype.char.encode(), array.ndim, len(label))
            head += struct.pack(f"<{array.ndim}Q", *array.shape) + label
            self.add(head + bytes(-(self.length + len(head)) % _ALIGNMENT))
            if array.nbytes:
                self.add(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
                self.add(bytes(-self.length % _ALIGNMENT))

    def add_error(self, row: int, error: Exception) -> None:
        """Add an error: one of the catalogue as it is, of any other what its author would read."""
        code: ErrorCode = error.code if isinstance(error, ApiError) else "internal_error"
        text = (error.message if isinstance(error, ApiError) else repr(error)).encode()
        self.add(_ERROR.pack(row, _CODES.index(code), len(text)) + text)


def decoded(data: bytearray) -> Frame:
    """The frame that `data` is; its arrays are views.

    Raises:
        MalformedFrame: it is none.
    """
    cursor = _Cursor(data)
    header = _Header(*cursor.unpack(_HEADER))
    if header.magic != _MAGIC or header.length != len(data) - HEADER_BYTES:
        raise MalformedFrame("the header does not fit the frame")
    try:
        frame = _frame(Kind(header.kind), header, cursor)
    except (IndexError, ValueError) as error:  # also of Kind, and of text that is not UTF-8
        raise MalformedFrame(str(error)) from None
    cursor.require_end()
    return frame


def _frame(kind: Kind, header: _Header, cursor: _Cursor) -> Frame:
    if kind is Kind.JOB:
        if math.isnan(header.first_sec) or header.full > 1:
            raise MalformedFrame("a field of the job is out of range")
        blocks = [_block(cursor) for _ in range(header.blocks)]
        return JobFrame(
            header.job, header.model, _LANES[header.lane], bool(header.full), header.first_sec, blocks
        )
    if kind is Kind.ANSWER:
        answers = [_block_answer(cursor) for _ in range(header.blocks)]
        submitted, *times = cursor.times(1 + 2 * header.model)
        runs = list(zip(times[::2], times[1::2], strict=True))
        return AnswerFrame(header.job, Answer(answers, header.first_sec, header.second_sec, submitted, runs))
    if kind is Kind.FAILURE:
        _, code, text = cursor.error()
        return FailureFrame(header.job, ApiError(code, text))
    return PlainFrame(kind, header.job, bytes(cursor.take(header.length)))


def _block(cursor: _Cursor) -> Block:
    modality, stage, count, segments = cursor.unpack(_BLOCK)
    arrays = cursor.arrays(count)
    windows = {array.shape[:1] for array in arrays.values()}
    if len(windows) != 1 or not segments or windows <= {(), (0,)}:
        raise MalformedFrame("a block without windows, or with arrays of different lengths")
    return Block(MODALITIES[modality], _STAGES[stage], arrays, segments)


def _block_answer(cursor: _Cursor) -> BlockAnswer:
    count, _, failed = cursor.unpack(_ANSWER)
    outputs = cursor.arrays(count)
    failures: dict[int, Exception] = {}
    for _ in range(failed):
        row, code, text = cursor.error()
        failures[row] = RemoteFailure(text) if code == "internal_error" else ApiError(code, text)
    return BlockAnswer(outputs, failures)


class _Cursor:
    """Reads a frame from its beginning to its end, and never beyond."""

    def __init__(self, data: bytearray) -> None:
        self._view = memoryview(data)
        self._at = 0

    def take(self, size: int) -> memoryview:
        """The next `size` bytes."""
        end = self._at + size
        if end > len(self._view):
            raise MalformedFrame("the frame ends too early")
        part = self._view[self._at : end]
        self._at = end
        return part

    def unpack(self, layout: struct.Struct) -> tuple[Any, ...]:
        """The next fields."""
        return layout.unpack(self.take(layout.size))

    def times(self, count: int) -> list[float]:
        """The next times."""
        times: list[float] = np.frombuffer(self.take(8 * count), "<f8").tolist()
        return times

    def arrays(self, count: int) -> dict[str, NDArray[Any]]:
        """The next arrays."""
        arrays = dict(self._array() for _ in range(count))
        if len(arrays) != count:
            raise MalformedFrame("two arrays have one name")
        return arrays

    def _array(self) -> tuple[str, NDArray[Any]]:
        char, axes, length = self.unpack(_ARRAY)
        if char not in _DTYPES:
            raise MalformedFrame("an array of no such type")
        dtype = np.dtype(char.decode())
        shape = struct.unpack(f"<{axes}Q", self.take(8 * axes))
        name = bytes(self.take(length)).decode()
        self._align()
        values = self.take(math.prod(shape) * dtype.itemsize)
        self._align()
        return name, np.ndarray(shape, dtype, values)

    def error(self) -> tuple[int, ErrorCode, str]:
        """The next error: its row, its code, its text."""
        row, code, length = self.unpack(_ERROR)
        return row, _CODES[code], bytes(self.take(length)).decode()

    def _align(self) -> None:
        self.take(-self._at % _ALIGNMENT)

    def require_end(self) -> None:
        """Nothing may follow."""
        if self._at != len(self._view):
            raise MalformedFrame("something follows the frame")
