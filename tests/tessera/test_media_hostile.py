"""What is not media, or not of a form on the list, is refused before anything reads it."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tessera.errors import InputError
from tessera.media import probe, read_audio
from tests.media_files import clip, picture_file, shades, sine, sound_file
from tests.reading import AUDIO, GRID, LIMITS, RATE, listen, refusal, watch


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("sound.wav", clip("wav"))
    return file.getvalue()


_FOREIGN: dict[str, Callable[[], bytes]] = {
    "text": lambda: b"hello, this is no media at all\n" * 50,
    "nul bytes": lambda: bytes(5000),
    "one byte": lambda: b"x",
    "random bytes": lambda: np.random.default_rng(1).bytes(50_000),
    "png": lambda: picture_file("png", "image2pipe", "rgb24"),
    "jpeg": lambda: picture_file("mjpeg", "image2pipe", "yuvj420p"),
    "gif": lambda: picture_file("gif", "gif", "rgb8"),
    "avif": lambda: picture_file("libsvtav1", "avif", "yuv420p"),
    "avi": lambda: picture_file("mpeg4", "avi", "yuv420p"),
    "mpeg-ts": lambda: picture_file("mpeg4", "mpegts", "yuv420p", count=10),
    "svg": lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "zip": zipped,
    "pdf": lambda: b"%PDF-1.7\n" + bytes(500),
}


@pytest.mark.parametrize("kind", _FOREIGN)
def test_what_is_not_media_is_refused(kind: str, tmp_path: Path) -> None:
    data = _FOREIGN[kind]()
    path = tmp_path / "sound.wav"
    path.write_bytes(data)
    for source in (data, path):
        assert refusal(source).code == "unsupported_media"
        with pytest.raises(InputError):
            probe(source, LIMITS)


@pytest.mark.parametrize(
    "playlist",
    [
        "ffconcat version 1.0\nfile '{path}'\n",
        "ffconcat version 1.0\nfile 'file:{path}'\n",
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{path}\n#EXT-X-ENDLIST\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
        '<?xml version="1.0"?><MPD><Period><BaseURL>{path}</BaseURL></Period></MPD>',
    ],
)
def test_a_file_that_names_another_does_not_read_it(playlist: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.wav"
    secret.write_bytes(clip("wav"))
    document = playlist.format(path=secret)
    for name in ("list.ffconcat", "list.m3u8", "sound.wav"):
        path = tmp_path / name
        path.write_text(document)
        assert refusal(path).code == "unsupported_media"
    assert refusal(document.encode()).code == "unsupported_media"


def test_a_playlist_behind_an_id3_tag_is_refused() -> None:
    tag = b"ID3\x04\x00\x00\x00\x00\x00\x00"
    assert refusal(tag + b"ffconcat version 1.0\nfile /etc/hostname\n").code in (
        "unsupported_media",
        "media_corrupt",
    )


@pytest.mark.parametrize(
    ("codec", "container"), [("mjpeg", "mov"), ("ffv1", "matroska"), ("mpeg2video", "mp4")]
)
def test_codecs_that_are_not_on_the_list(codec: str, container: str) -> None:
    data = picture_file(codec, container, "yuvj420p" if codec == "mjpeg" else "yuv420p", count=5)
    with pytest.raises(InputError, match="codec of the video track") as raised:
        watch(data)
    assert raised.value.code == "unsupported_media"
    with pytest.raises(InputError, match="codecs of the media"):
        probe(data, LIMITS)


def test_a_cover_picture_is_no_video() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="mp3") as out:
        sound: Any = out.add_stream("libmp3lame", rate=RATE, layout="mono")
        cover: Any = out.add_stream("mjpeg", rate=1)
        cover.height, cover.width, cover.pix_fmt = 64, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(shades([80], 64, 64)[0], format="rgb24")
        out.mux(cover.encode(picture.reformat(format="yuvj420p")))
        frame = av.AudioFrame.from_ndarray(sine(2, RATE), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
        out.mux([*sound.encode(frame), *sound.encode(None)])
    tracks = probe(file.getvalue(), LIMITS)
    assert (tracks.has_audio, tracks.has_video) == (True, False)
    assert listen(file.getvalue()).segments == 2
    with pytest.raises(InputError, match="no video track"):
        watch(file.getvalue())


def test_nothing_is_too_little(tmp_path: Path) -> None:
    empty = tmp_path / "empty.wav"
    empty.touch()
    assert refusal(b"").code == refusal(empty).code == "empty_input"
    with pytest.raises(InputError) as raised:
        listen(sound_file("wav", np.zeros((1, 0), np.float32), RATE))
    assert raised.value.code == "empty_input"


def test_only_plain_files_are_opened(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (fifo, tmp_path, Path("/dev/zero")):
        assert refusal(path).code == "invalid_value"
    with pytest.raises(FileNotFoundError):
        read_audio(tmp_path / "nothing.wav", AUDIO, GRID, LIMITS)
