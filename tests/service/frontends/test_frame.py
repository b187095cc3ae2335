"""Frames: what was said is what is understood, however it is cut into pieces; what is no frame is refused."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from numpy.typing import NDArray

from service.errors import CATALOGUE, ApiError
from service.frontends.frame import (
    HEADER_BYTES,
    AnswerFrame,
    FailureFrame,
    Frame,
    JobFrame,
    Kind,
    MalformedFrame,
    PlainFrame,
    RemoteFailure,
    decoded,
    encoded,
    frame_bytes,
)
from service.frontends.transport import FrameProtocol
from service.jobs import Answer, Block, BlockAnswer, Lane
from tessera.windows import MODALITIES, Stage

DTYPES = st.sampled_from(["float32", "float64", "float16", "int64", "int32", "uint8", "bool"])
NAMES = st.text(max_size=20)
NUMBERS = st.integers(0, 2**64 - 1)
SECONDS = st.floats(allow_nan=False)


@st.composite
def blocks(draw: st.DrawFn) -> Block:
    """Any block: some windows, a few arrays."""
    windows = draw(st.integers(1, 3))
    inputs = {
        name: draw(arrays_of.arrays(draw(DTYPES), (windows, *draw(st.lists(st.integers(0, 4), max_size=3)))))
        for name in draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    }
    stage: Stage = draw(st.sampled_from(get_args(Stage)))
    return Block(draw(st.sampled_from(MODALITIES)), stage, inputs, draw(st.integers(1, 2**32 - 1)))


ERRORS = st.builds(ApiError, st.sampled_from(sorted(CATALOGUE)), st.text())
ANSWERS = st.builds(
    BlockAnswer,
    st.dictionaries(NAMES, arrays_of.arrays(DTYPES, arrays_of.array_shapes(min_dims=0, min_side=0))),
    st.dictionaries(st.integers(0, 2**32 - 1), ERRORS | st.builds(ValueError, st.text())),
)
JOBS = st.builds(
    JobFrame,
    NUMBERS,
    st.integers(0, 2**32 - 1),
    st.sampled_from(get_args(Lane)),
    st.booleans(),
    SECONDS,
    st.lists(blocks(), max_size=3),
)
FRAMES: st.SearchStrategy[Frame] = st.one_of(
    JOBS,
    st.builds(
        AnswerFrame,
        NUMBERS,
        st.builds(
            Answer,
            st.lists(ANSWERS, max_size=3),
            SECONDS,
            SECONDS,
            SECONDS,
            st.lists(st.tuples(SECONDS, SECONDS), max_size=3),
        ),
    ),
    st.builds(FailureFrame, NUMBERS, ERRORS),
    st.builds(
        PlainFrame, st.sampled_from([Kind.CANCEL, Kind.ASK, Kind.TEXT, Kind.LISTENING]), NUMBERS, st.binary()
    ),
)


def written(frame: Frame) -> bytearray:
    """The bytes of a frame."""
    return bytearray(b"".join(encoded(frame)))


def told(error: Exception) -> tuple[str, str]:
    """What is left of an error at the other end."""
    if isinstance(error, ApiError):
        return error.code, error.message
    return "internal_error", str(error) if isinstance(error, RemoteFailure) else repr(error)


def exact(arrays: Mapping[str, NDArray[Any]]) -> list[Any]:
    """Arrays as what can be compared, bit by bit."""
    return [(name, each.dtype.char, each.shape, each.tobytes()) for name, each in arrays.items()]


def comparable(frame: Frame) -> Any:
    """A frame as what can be compared."""
    match frame:
        case JobFrame():
            said = [(b.modality, b.stage, b.segments, exact(b.inputs)) for b in frame.blocks]
            return frame.job, frame.model, frame.lane, frame.full, frame.seconds_left, said
        case AnswerFrame(job, answer):
            became = [
                (exact(b.outputs), [(row, told(error)) for row, error in b.failures.items()])
                for b in answer.blocks
            ]
            return job, answer.queue_sec, answer.infer_sec, answer.submitted, answer.runs, became
        case FailureFrame(job, error):
            return job, told(error)
        case PlainFrame():
            return frame


@given(FRAMES)
def test_a_frame_is_understood_as_it_was_meant(frame: Frame) -> None:
    data = written(frame)
    assert frame_bytes(data[:HEADER_BYTES]) == len(data)
    assert comparable(decoded(data)) == comparable(frame)


@given(FRAMES, st.data())
def test_what_is_no_frame_is_refused_or_is_another_frame(frame: Frame, data: st.DataObject) -> None:
    original = written(frame)
    damaged = original.copy()
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    for broken in (damaged, damaged[:cut], damaged + b"\0"):
        try:
            decoded(broken)
        except MalformedFrame:
            continue
        assert len(broken) == len(original)


def test_arrays_are_read_where_they_lie() -> None:
    values = np.arange(1000, dtype="<f4").reshape(10, 100)
    data = written(JobFrame(1, 0, "bulk", False, 1.0, [Block("audio", "features", {"features": values}, 1)]))
    frame = decoded(data)
    assert isinstance(frame, JobFrame)
    received = frame.blocks[0].inputs["features"]
    assert np.shares_memory(received, np.frombuffer(data, np.uint8))
    assert received.ctypes.data % 16 == 0


@pytest.mark.parametrize("char", [b"O", b"V", b"S", b"U", b"M", b"\xff"])
def test_an_array_of_objects_is_refused(char: bytes) -> None:
    values = np.zeros((1, 4), np.float32)
    data = written(JobFrame(1, 0, "bulk", False, 1.0, [Block("audio", "features", {"x": values}, 1)]))
    at = data.index(b"f", HEADER_BYTES)
    data[at : at + 1] = char
    with pytest.raises(MalformedFrame, match="type"):
        decoded(data)


def test_frames_arrive_whole_whatever_their_size() -> None:
    sizes = [0, 1, 70_000, 262_144 - HEADER_BYTES, 262_144, 5_000_000, 3, 3_000_000, 0]
    sent = [PlainFrame(Kind.TEXT, number, bytes([number]) * size) for number, size in enumerate(sizes)]

    async def scenario() -> list[Frame]:
        received: list[Frame] = []
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        sender = FrameProtocol(received.append, ended.set)
        receiver = FrameProtocol(received.append, ended.set)
        await loop.create_unix_connection(lambda: receiver, sock=theirs)
        await loop.create_unix_connection(lambda: sender, sock=ours)
        for frame in sent:
            sender.send(frame)
        sender.close()
        await ended.wait()
        while receiver.open:
            await asyncio.sleep(0.001)
        sender.send(sent[0])
        return received

    assert asyncio.run(scenario()) == sent


@given(st.binary(min_size=HEADER_BYTES))
def test_the_end_that_receives_nonsense_hangs_up(nonsense: bytes) -> None:
    async def scenario() -> None:
        received: list[Frame] = []
        ended = asyncio.Event()
        ours, theirs = socket.socketpair()
        receiver = FrameProtocol(received.append, ended.set)
        await asyncio.get_running_loop().create_unix_connection(lambda: receiver, sock=theirs)
        ours.sendall(nonsense)
        await ended.wait()
        assert not received
        ours.close()

    asyncio.run(scenario())
