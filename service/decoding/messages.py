"""What the server and a decoder say to each other; bytes of media and of windows lie in memory that both see.

Each message is one packet of a Unix socket, as MessagePack with a schema: whatever else a decoder may say, which media
of a stranger has perhaps taken over, is no message.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import msgspec

from tessera.errors import InputErrorCode
from tessera.limits import Limits, Truncate

PACKET_BYTES = 16 * 1024
"""The longest message."""

_Short = Annotated[str, msgspec.Meta(max_length=500)]


class Begin(msgspec.Struct, frozen=True, tag=True):
    """Read the media in the memory that comes along, for a backbone; `spec` and `grid` are JSON of the manifest.

    Of the processor it may use `cpu_seconds`.
    """

    is_audio: bool
    spec: bytes
    grid: bytes
    limits: Limits
    truncate: Truncate
    start_sec: float
    end_sec: float | None
    cpu_seconds: int


class Take(msgspec.Struct, frozen=True, tag=True):
    """Leave out `skip` windows, then write up to `count` into the memory that comes along."""

    count: int
    skip: int = 0


Request = Begin | Take


class Part(msgspec.Struct, frozen=True, tag=True):
    """What was written: the segments of each window; and what is known of the clip so far."""

    segments: list[Annotated[int, msgspec.Meta(ge=1)]]
    ended: bool
    start_sec: float
    duration_sec: float
    truncated: bool
    decode_sec: float


class Refused(msgspec.Struct, frozen=True, tag=True):
    """An `InputError`."""

    code: InputErrorCode
    message: _Short
    limit: float | None
    actual: float | None
    setting: _Short | None


Reply = Part | Refused

encode = msgspec.msgpack.Encoder().encode
decode_request: Callable[[bytes], Request] = msgspec.msgpack.Decoder(Request).decode
decode_reply: Callable[[bytes], Reply] = msgspec.msgpack.Decoder(Reply).decode
