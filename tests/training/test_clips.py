"""Clips of the world as real media files, decoded back."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from tessera.errors import TrainingError
from training.data.clips import read_manifest, write_clips, write_mp4, write_wav
from training.data.contact_sheet import write_contact_sheet
from training.data.world import EVENTS, World


def decoded_sound(path: Path) -> tuple[np.ndarray, int]:
    """The first audio stream as float samples, with its rate."""
    with av.open(path) as container:
        frames = list(container.decode(audio=0))
    parts = [frame.to_ndarray().astype(np.float32).reshape(-1) for frame in frames]
    scale = 32768 if frames[0].format.name == "s16" else 1
    return np.concatenate(parts) / scale, frames[0].sample_rate


def decoded_frames(path: Path) -> tuple[np.ndarray, list[float]]:
    with av.open(path) as container:
        frames = list(container.decode(video=0))
    return np.stack([f.to_ndarray(format="rgb24") for f in frames]), [f.time for f in frames]


@pytest.mark.parametrize("rate", [16000, 22050])
def test_a_wav_holds_the_waveform(tmp_path: Path, rate: int) -> None:
    clip = World(seconds=2, sample_rate=rate).clip("test", 4)
    write_wav(tmp_path / "clip.wav", clip)
    sound, found_rate = decoded_sound(tmp_path / "clip.wav")
    assert found_rate == rate
    np.testing.assert_allclose(sound, clip.waveform(), atol=2 / 32768)


@pytest.mark.parametrize(("suffix", "codecs"), [(".mp4", ("h264", "aac")), (".webm", ("vp9", "opus"))])
def test_a_video_holds_the_frames_and_the_sound(tmp_path: Path, suffix: str, codecs: tuple[str, str]) -> None:
    clip = World(seconds=2).clip("test", 9)
    path = tmp_path / f"clip{suffix}"
    write_mp4(path, clip, fps=10, height=96, width=128)
    with av.open(path) as container:
        assert (
            container.streams.video[0].codec_context.name,
            container.streams.audio[0].codec_context.name,
        ) == codecs
        assert container.duration is not None
        assert container.duration / av.time_base == pytest.approx(2.0, abs=0.1)
    frames, times = decoded_frames(path)
    assert times == pytest.approx(np.arange(20) / 10, abs=0.002)
    original = clip.frames(10, 96, 128).reshape(20, 96, 128, 3)
    assert frames.shape == original.shape
    errors = np.abs(frames.astype(int) - original).mean((1, 2, 3))
    shuffled = np.abs(frames.astype(int) - original[::-1]).mean()
    assert errors.max() < 16
    assert errors.mean() < shuffled
    sound, rate = decoded_sound(path)
    step = rate // 50
    heard = np.sqrt(np.square(sound[: 2 * rate]).reshape(-1, step).mean(1))
    meant = np.sqrt(np.square(clip.waveform()).reshape(-1, 320).mean(1))
    assert np.corrcoef(heard, meant)[0, 1] > 0.9


def test_a_silent_video_and_another_codec(tmp_path: Path) -> None:
    clip = World(seconds=1, sample_rate=22050).clip("test", 0)
    write_mp4(tmp_path / "a.mp4", clip, fps=5, height=32, width=48, with_sound=False, codec="mpeg4")
    with av.open(tmp_path / "a.mp4") as container:
        assert [stream.codec_context.name for stream in container.streams] == ["mpeg4"]
    write_mp4(tmp_path / "b.mkv", clip, fps=5, height=32, width=48)
    sound, rate = decoded_sound(tmp_path / "b.mkv")
    assert rate == 48000
    assert len(sound) / rate == pytest.approx(1.0, abs=0.1)


def test_a_folder_lists_its_files(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    world = World(seconds=1)
    manifest = write_clips(tmp_path / "out", world, "validation", 2, fps=5, height=32, width=32)
    rows = list(read_manifest(manifest))
    assert capfd.readouterr().out == ""
    assert [row["id"] for row in rows] == ["validation-000000", "validation-000001"]
    for index, row in enumerate(rows):
        clip = world.clip("validation", index)
        assert (row["event"], row["caption"]) == (clip.event, clip.caption)
        assert row["event"] in EVENTS
        assert row["occurrences"][0]["onset"] == clip.occurrences[0].onset
        sound, rate = decoded_sound(manifest.parent / row["audio"])
        assert len(sound) == rate
        assert decoded_frames(manifest.parent / row["video"])[0].shape == (5, 32, 32, 3)
    with pytest.raises(TrainingError, match="already holds clips"):
        write_clips(tmp_path / "out", world, "train", 2)


def test_impossible_files_are_refused(tmp_path: Path) -> None:
    clip = World(seconds=1).clip("test", 0)
    with pytest.raises(TrainingError, match="sides must be even"):
        write_mp4(tmp_path / "a.mp4", clip, height=33)
    with pytest.raises(TrainingError, match="no video encoder called 'nonsense'"):
        write_mp4(tmp_path / "a.mp4", clip, codec="nonsense")
    with pytest.raises(TrainingError, match="at least one"):
        write_clips(tmp_path, World(), "train", 0)
    assert list(tmp_path.iterdir()) == []


def test_a_contact_sheet_shows_every_event(tmp_path: Path) -> None:
    write_contact_sheet(tmp_path / "sheet.png", World())
    with av.open(str(tmp_path / "sheet.png")) as container:
        sheet = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert sheet.shape == (7 * 70, 4 * 198, 3)
    cells = sheet.reshape(7, 70, 4, 198, 3)[:, :64, :, :192]
    assert (cells.std(axis=(1, 3)).mean(axis=-1) > 5).all()
