"""One clip through the backbones: its first ten seconds, every caption, and a clear word when it cannot be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tessera.errors import TrainingError
from tessera.limits import Limits
from tests.media_files import chirp, shades, sound_file, video_file
from training.backbones.catalogue import audio_backbone, video_backbone
from training.data.clip_reader import ClipReader, ReaderSettings
from training.data.generated import train_pieces
from training.data.manifest import ClipRow

PIECES = train_pieces(["a dog barks", "rain on a roof"]).to_str()


@pytest.fixture(scope="module")
def reader() -> ClipReader:
    return ClipReader(ReaderSettings({"audio": "classic", "video": "classic", "text": "classic"}, PIECES))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve seconds with sound, no second like another."""
    path = tmp_path_factory.mktemp("clip") / "long.mp4"
    path.write_bytes(video_file("mp4", shades(range(10, 250, 2)), sound=(chirp(12, 48_000), 48_000)))
    return path


def test_the_first_ten_seconds_are_taken(reader: ClipReader, clip: Path) -> None:
    arrays = reader.read(ClipRow("long", clip, clip, ("a dog barks", "rain on the roof, a dog")))
    assert {name: (array.shape, str(array.dtype)) for name, array in arrays.items()} == {
        "audio": ((10, 128), "float32"),
        "video": ((10, 7, 7, 48), "float16"),
        "text": ((2, 10, 128), "float32"),
        "words": ((2,), "int64"),
    }
    assert arrays["words"].tolist() == [3, 6]
    for text, words in zip(arrays["text"], (3, 6), strict=True):
        assert np.abs(text[:words]).max(axis=1).min() > 0
        assert np.abs(text[words:]).max() == 0


def test_features_are_those_of_the_backbones(reader: ClipReader, tmp_path: Path) -> None:
    tone, grey = chirp(2), shades([40] * 10 + [200] * 10)
    (tmp_path / "a.wav").write_bytes(sound_file("wav-f32", tone, 16_000))
    (tmp_path / "a.mp4").write_bytes(video_file("mp4", grey))
    arrays = reader.read(ClipRow("a", tmp_path / "a.wav", tmp_path / "a.mp4", ("rain",)))
    with torch.no_grad():
        audio = audio_backbone()(waveform=torch.from_numpy(tone))[0]
    assert np.allclose(arrays["audio"], audio.numpy(), atol=1e-4)
    frames = np.repeat(grey[[0, 10]], 4, axis=0).reshape(1, 2, 4, *grey.shape[1:])[:, :, :, :1, :1]
    with torch.no_grad():
        video = video_backbone()(frames=torch.from_numpy(np.tile(frames, (1, 1, 1, 112, 112, 1))))[0]
    assert np.allclose(arrays["video"], video.numpy(), atol=0.1)


def test_a_modality_that_was_not_asked_for_is_not_read(clip: Path) -> None:
    reader = ClipReader(ReaderSettings({"audio": "classic"}))
    assert reader.read(ClipRow("a", clip, Path("missing.mp4"), ("rain",))).keys() == {"audio"}


def test_what_cannot_be_read_is_named(reader: ClipReader, tmp_path: Path, clip: Path) -> None:
    (tmp_path / "a.txt").write_text("nothing")
    (tmp_path / "silent.mp4").write_bytes(video_file("mp4", shades([9] * 10)))
    sentences = {
        tmp_path / "none.wav": "No such file or directory",
        tmp_path
        / "a.txt": "not media of a form we read: wav, mp3, ogg, flac, mp4, mov, m4a, 3gp, matroska, webm",
        tmp_path / "silent.mp4": "the media has no audio track; --audio none or --video none leaves one out",
    }
    for path, sentence in sentences.items():
        with pytest.raises(TrainingError) as raised:
            reader.read(ClipRow("x", path, clip, ("rain",)))
        assert str(raised.value) == f"'{path}': {sentence}"
    with pytest.raises(TrainingError, match="its caption: the text holds no words"):
        reader.read(ClipRow("x", clip, clip, ("!!",)))


def test_limits_hold(clip: Path) -> None:
    reader = ClipReader(ReaderSettings({"video": "classic"}, limits=Limits(max_video_pixels=1000)))
    with pytest.raises(TrainingError, match="1536 pixels a frame, the limit is 1000"):
        reader.read(ClipRow("x", None, clip))
