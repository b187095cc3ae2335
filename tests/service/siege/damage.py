"""Media with faults: of chance, and where it hurts: lengths, counts and sizes that containers and codecs believe."""

from __future__ import annotations

import random
from collections.abc import Callable

TAGS = (
    *(
        b"moov",
        b"trak",
        b"mdia",
        b"stbl",
        b"stsd",
        b"stts",
        b"ctts",
        b"stsc",
        b"stsz",
        b"stco",
        b"co64",
        b"stss",
    ),
    *(
        b"mvhd",
        b"tkhd",
        b"mdhd",
        b"hdlr",
        b"elst",
        b"avcC",
        b"hvcC",
        b"av1C",
        b"esds",
        b"alac",
        b"mdat",
        b"ftyp",
    ),
    *(b"moof", b"mfhd", b"traf", b"tfhd", b"tfdt", b"trun", b"mvex", b"trex", b"udta", b"meta"),
    *(
        b"RIFF",
        b"WAVE",
        b"fmt ",
        b"data",
        b"LIST",
        b"OggS",
        b"OpusHead",
        b"OpusTags",
        b"vorbis",
        b"fLaC",
        b"ID3",
    ),
    *(b"Xing", b"Info", b"LAME"),
    # EBML: header, segment, info, tracks, a track, clusters, simple blocks, cues, void, tags.
    *(
        b"\x1aE\xdf\xa3",
        b"\x18S\x80g",
        b"\x15I\xa9f",
        b"\x16T\xaek",
        b"\xae",
        b"\x1fC\xb6u",
        b"\xa3",
        b"\x1cS\xbbk",
    ),
    *(b"\xec", b"\x12T\xc3g", b"\xd7", b"\x83", b"\x86", b"\xb0", b"\xba", b"\x2a\xd7\xb1"),
)
"""Where a container says how much of something comes."""

_EXTREMES = (0, 1, 7, 8, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**24 - 1, 2**31 - 1, 2**31, 2**32 - 8, 2**32 - 1)

Damage = Callable[[bytes, bytes, random.Random], bytes]
"""What becomes of a file; another file is at hand."""


def flipped(data: bytes, other: bytes, draw: random.Random) -> bytes:
    """Some bits are wrong."""
    damaged = bytearray(data)
    for _ in range(draw.choice([1, 2, 8, 64])):
        damaged[_at(damaged, draw)] ^= 1 << draw.randrange(8)
    return bytes(damaged)


def truncated(data: bytes, other: bytes, draw: random.Random) -> bytes:
    """It breaks off."""
    return data[: draw.randrange(1, len(data))]


def resized(data: bytes, other: bytes, draw: random.Random) -> bytes:
    """Lengths and counts are extreme."""
    damaged = bytearray(data)
    for _ in range(draw.choice([1, 1, 2, 4])):
        places = _places(data, draw.choice(TAGS))
        at = (draw.choice(places) + draw.choice([-4, 4, 8, 12, 16, 20])) if places else _at(damaged, draw)
        size = draw.choice([1, 2, 4, 8])
        value = draw.choice(_EXTREMES) & (2 ** (8 * size) - 1)
        if draw.random() < 0.2:
            value = 2 ** (8 * size) - 1
        at = max(0, at)
        damaged[at : at + size] = value.to_bytes(size, draw.choice(["big", "little"]))
    return bytes(damaged)


def spliced(data: bytes, other: bytes, draw: random.Random) -> bytes:
    """It goes on as another file, or another lies within it."""
    at, start = _at(data, draw), draw.randrange(len(other))
    end = draw.choice([len(other), min(len(other), start + 500)])
    return data[:at] + other[start:end] + (data[at:] if draw.random() < 0.5 else b"")


def repeated(data: bytes, other: bytes, draw: random.Random) -> bytes:
    """A part comes again and again."""
    places = _places(data, draw.choice(TAGS))
    start = max(0, draw.choice(places) - 4) if places else _at(data, draw)
    part = data[start : start + draw.choice([8, 40, 300, 2000])]
    return data[: start + len(part)] + part * draw.choice([1, 3, 50, 400]) + data[start + len(part) :]


def zeroed(data: bytes, other: bytes, draw: random.Random) -> bytes:
    """A part is nothing."""
    at = _at(data, draw)
    size = min(draw.choice([1, 4, 16, 200, 5000]), len(data) - at)
    return data[:at] + draw.choice([b"\0", b"\xff"]) * size + data[at + size :]


def cut(data: bytes, other: bytes, draw: random.Random) -> bytes:
    """A part is missing."""
    at = _at(data, draw)
    return data[:at] + data[at + draw.choice([1, 4, 37, 1000]) :]


def twice(data: bytes, other: bytes, draw: random.Random) -> bytes:
    """One fault after another."""
    for damage in draw.sample(ONCE, 2):
        data = damage(data, other, draw) or b"\0"
    return data


ONCE: list[Damage] = [flipped, truncated, resized, spliced, repeated, zeroed, cut]
DAMAGES: list[Damage] = [*ONCE, resized, twice]


def _at(data: bytes | bytearray, draw: random.Random) -> int:
    """Half of the time near the start, where headers are."""
    return draw.randrange(min(len(data), 600) if draw.random() < 0.5 else len(data))


def _places(data: bytes, tag: bytes) -> list[int]:
    """The first hundred occurrences of `tag`."""
    found, at = [], data.find(tag)
    while at >= 0 and len(found) < 100:
        found.append(at)
        at = data.find(tag, at + 1)
    return found
