"""Headers that claim too much, and media that is too much: refused at a bounded cost."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tessera.errors import InputError
from tessera.limits import Limits
from tessera.media import read_video
from tests.media_files import PICTURE, clip, picture_file, shades, video_file
from tests.reading import GRID, RATE, VIDEO, listen, refusal, watch


def wav(seconds: float, *, claim: int, rate: int = RATE, channels: int = 1) -> bytes:
    body = bytes(round(seconds * rate) * 2 * channels)
    per_second = 2 * rate * channels % 2**32
    form = struct.pack("<IHHIIHH", 16, 1, channels, rate, per_second, 2 * channels % 2**16, 16)
    return b"RIFF\xff\xff\xff\xffWAVEfmt " + form + b"data" + struct.pack("<I", claim) + body


@pytest.mark.parametrize("claim", [36_000 * 2 * RATE, 2**32 - 1, 0x7FFFFFFF])
def test_a_claim_of_hours_over_three_seconds(claim: int) -> None:
    heard = listen(wav(3, claim=claim))
    assert (heard.segments, heard.duration_sec) == (3, 3)


def test_a_matroska_that_claims_ten_hours() -> None:
    video = bytearray(clip("mkv"))
    at = video.index(b"\x44\x89\x88") + 3  # the element Duration, an eight-byte float of milliseconds
    video[at : at + 8] = struct.pack(">d", 36_000_000.0)
    assert watch(bytes(video)).segments == listen(bytes(video)).segments == 3


@pytest.mark.parametrize("rate", [1, 100, 999, 2_000_000, 2**31 - 1])
def test_rates_that_would_cost_memory(rate: int) -> None:
    with pytest.raises(InputError) as raised:
        listen(wav(min(100, 100_000 / rate), claim=200_000, rate=rate))
    assert raised.value.code in ("unsupported_media", "media_corrupt")


@pytest.mark.parametrize("channels", [9, 40, 65_535])
def test_channels_that_cannot_be_mixed(channels: int) -> None:
    with pytest.raises(InputError) as raised:
        listen(wav(0.01, claim=320 * channels, channels=channels))
    assert raised.value.code in ("unsupported_media", "media_corrupt")


def test_too_many_bytes(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    path.write_bytes(clip("wav"))
    for source in (path, clip("wav")):
        error = refusal(source, Limits(max_media_bytes=100_000))
        assert (error.code, error.limit, error.setting) == (
            "media_too_large",
            100_000,
            "TESSERA_MAX_MEDIA_BYTES",
        )
        assert error.actual == len(clip("wav"))


@pytest.mark.parametrize("tracks", [3, 40])
def test_too_many_streams(tracks: int) -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as out:
        streams = [out.add_stream("pcm_s16le", rate=RATE, layout="mono") for _ in range(tracks)]
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
        for stream in streams:
            out.mux(stream.encode(frame))
    assert refusal(file.getvalue(), Limits(max_media_streams=2)).code == "media_too_large"
    assert listen(file.getvalue(), limits=Limits(max_media_streams=50)).segments == 1


@pytest.mark.parametrize("form", PICTURE)
def test_too_many_pixels(form: str) -> None:
    video = video_file(form, shades([80] * 3, 128, 160))
    with pytest.raises(InputError) as raised:
        watch(video, limits=Limits(max_video_pixels=128 * 160 - 1))
    error = raised.value
    assert (error.code, error.actual) == ("media_too_large", 128 * 160)
    assert error.setting == "TESSERA_MAX_VIDEO_PIXELS"
    assert watch(video, limits=Limits(max_video_pixels=128 * 160)).segments == 1


def test_frames_that_grow_on_the_way() -> None:
    """The headers tell the size of the first frame; a key frame may change it."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as out:
        stream: Any = out.add_stream("libvpx", rate=10)
        stream.height = stream.width = 64
        for second, side in enumerate((64, 256)):
            encoder: Any = av.CodecContext.create("libvpx", "w")
            encoder.height, encoder.width, encoder.pix_fmt = side, side, "yuv420p"
            encoder.time_base = Fraction(1, 10)
            frames = [
                av.VideoFrame.from_ndarray(grey, format="rgb24") for grey in shades([80] * 10, side, side)
            ]
            packets = [packet for frame in [*frames, None] for packet in encoder.encode(frame)]
            for number, packet in enumerate(packets):
                packet.stream, packet.time_base = stream, Fraction(1, 10)
                packet.pts = packet.dts = 10 * second + number
                out.mux(packet)
    seen = watch(file.getvalue())
    assert seen.segments == 2
    assert np.abs(seen.shades - 80).max() < 4
    with pytest.raises(InputError) as raised:
        watch(file.getvalue(), limits=Limits(max_video_pixels=128 * 128))
    assert (raised.value.code, raised.value.actual) == ("media_too_large", 256 * 256)


def test_too_many_frames() -> None:
    with pytest.raises(InputError) as raised:
        watch(clip("mp4"), limits=Limits(max_video_frames=20))
    assert (raised.value.code, raised.value.setting) == ("media_too_large", "TESSERA_MAX_VIDEO_FRAMES")
    assert watch(clip("mp4"), limits=Limits(max_video_frames=30)).segments == 3


def box(kind: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def table_bomb(samples: int) -> bytes:
    """An mp4 of half a kilobyte whose table of samples has `samples` rows."""
    entry = box(b"mp4a", bytes(6) + struct.pack(">HIIHHHHI", 1, 0, 0, 2, 16, 0, 0, 44_100 << 16))
    table = box(
        b"stbl",
        box(b"stsd", struct.pack(">II", 0, 1), entry),
        box(b"stts", struct.pack(">IIII", 0, 1, samples, 1024)),
        box(b"stsc", struct.pack(">IIIII", 0, 1, 1, samples, 1)),
        box(b"stsz", struct.pack(">III", 0, 1, samples)),
        box(b"stco", struct.pack(">III", 0, 1, 0)),
    )
    media = box(
        b"mdia",
        box(b"mdhd", struct.pack(">IIIIIHH", 0, 0, 0, 44_100, 441_000, 0, 0)),
        box(b"hdlr", struct.pack(">II4s", 0, 0, b"soun") + bytes(13)),
        box(b"minf", box(b"smhd", bytes(8)), table),
    )
    track = box(b"trak", box(b"tkhd", struct.pack(">IIIIII", 7, 0, 0, 1, 0, 10_000) + bytes(60)), media)
    header = box(b"mvhd", struct.pack(">IIIII", 0, 0, 0, 1000, 10_000) + bytes(80))
    return box(b"ftyp", b"isom\0\0\0\0isom") + box(b"moov", header, track) + box(b"mdat", bytes(100))


_MEMORY = """
import sys
from pathlib import Path
from tessera.errors import InputError
from tests.reading import listen, watch
for read in (listen, watch):
    try:
        read(Path(sys.argv[1]))
    except InputError as error:
        print(error.code)
print(int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from /proc")
@pytest.mark.parametrize("bomb", ["table", "frames"])
def test_a_small_file_cannot_claim_much_memory(bomb: str, tmp_path: Path) -> None:
    path = tmp_path / "bomb.mp4"
    if bomb == "table":
        path.write_bytes(table_bomb(60_000_000))  # 2 GB of rows
    else:
        path.write_bytes(picture_file("libvpx-vp9", "webm", "yuv420p", side=3800))
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", _MEMORY, str(path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    *codes, peak = ran.stdout.split()
    assert len(codes) == 2
    assert int(peak) < 250
    assert ran.stderr == ""


def test_a_closed_reader_after_an_error_frees_all() -> None:
    reader = read_video(clip("mp4"), VIDEO, GRID, Limits(max_video_frames=20))
    with pytest.raises(InputError):
        list(reader)
    assert list(reader) == []
