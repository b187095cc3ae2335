"""The generated world: equal clips from equal seeds; sounds, pictures and words that mean their event."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tessera.errors import TrainingError
from training.data.captions import PHRASES, caption
from training.data.events import Occurrence
from training.data.pictures import PICTURES
from training.data.pictures.camera import Camera, Filming
from training.data.seeds import Seed
from training.data.sounds import SOUNDS
from training.data.sounds.synthesis import Voice
from training.data.world import EVENTS, NUISANCES, SPLITS, Clip, Split, World

SEEDS = st.integers(0, 2**32 - 1)
FUNCTION_WORDS = frozenset(("a", "an", "the", "of", "in", "at", "on", "for", "its", "by", "someone"))


def digest(*arrays: np.ndarray) -> str:
    return hashlib.sha256(b"".join(a.tobytes() for a in arrays)).hexdigest()


def clean_clip(event: str, occurrences: tuple[Occurrence, ...], seconds: int = 6) -> Clip:
    """A clip without nuisance in which only what is asked for happens."""
    world = World(seed=5, seconds=seconds, nuisance_strength=0.0)
    clip = next(c for c in (world.clip("train", i) for i in range(len(EVENTS))) if c.event == event)
    return dataclasses.replace(clip, occurrences=occurrences)


def test_every_event_has_a_sound_a_picture_and_phrases() -> None:
    assert len(EVENTS) == len(set(EVENTS)) >= 24
    assert set(EVENTS) == set(SOUNDS) == set(PICTURES) == set(PHRASES)


def test_captions_and_activity_are_the_recorded_ones() -> None:
    world = World(seed=7)
    clips = [world.clip(split, index) for split in SPLITS for index in (0, 1, 50)]
    told = "\n".join(clip.caption for clip in clips).encode()
    shown = b"".join(np.packbits(c.activity(m)).tobytes() for c in clips for m in ("audio", "video"))
    assert (
        hashlib.sha256(told + shown).hexdigest()
        == "37100fe6182b36549360d7561e5578adf6712a7c3a6940256f8b0fa32e4caa51"
    )


def test_a_fresh_interpreter_renders_the_same_bits() -> None:
    script = (
        "import hashlib\n"
        "from training.data.world import World\n"
        "c = World(seed=3, seconds=2).clip('validation', 11)\n"
        "rendered = c.waveform().tobytes() + c.frames(2, 40, 56).tobytes()\n"
        "print(hashlib.sha256(rendered).hexdigest(), c.caption)\n"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    clip = World(seed=3, seconds=2).clip("validation", 11)
    assert answer.stdout == f"{digest(clip.waveform(), clip.frames(2, 40, 56))} {clip.caption}\n"


@settings(max_examples=25, deadline=None)
@given(
    seed=SEEDS,
    split=st.sampled_from(SPLITS),
    index=st.integers(0, 10**6),
    seconds=st.integers(1, 5),
    rate=st.sampled_from([8000, 16000, 22050]),
    per_second=st.integers(1, 3),
    height=st.integers(16, 50),
    width=st.integers(16, 50),
)
def test_renderings_keep_their_shapes_and_ranges(
    seed: int, split: Split, index: int, seconds: int, rate: int, per_second: int, height: int, width: int
) -> None:
    clip = World(seed=seed, seconds=seconds, sample_rate=rate).clip(split, index)
    sound, frames = clip.waveform(), clip.frames(per_second, height, width)
    assert sound.dtype == np.float32
    assert sound.shape == (seconds * rate,)
    assert 0 < np.abs(sound).max() <= 1
    assert frames.dtype == np.uint8
    assert frames.shape == (seconds, per_second, height, width, 3)
    assert frames.std() > 0
    assert EVENTS[clip.label] == clip.event
    for sense in ("audio", "video"):
        activity = clip.activity(sense)
        assert activity.dtype == np.bool_
        assert activity.shape == (seconds, len(EVENTS))


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, split=st.sampled_from(SPLITS), index=st.integers(0, 10**6), seconds=st.integers(1, 60))
def test_the_primary_event_fills_most_of_a_clip_and_others_take_one_sense(
    seed: int, split: Split, index: int, seconds: int
) -> None:
    clip = World(seed=seed, seconds=seconds).clip(split, index)
    primary = [o for o in clip.occurrences if o.event == clip.event]
    others = [o for o in clip.occurrences if o.event != clip.event]
    assert all(0 <= o.onset < o.offset <= seconds for o in clip.occurrences)
    assert {o.modality for o in primary} == {"both"}
    assert sum(o.offset - o.onset for o in primary) >= 0.6 * seconds
    assert all(a.offset < b.onset for a, b in itertools.pairwise(primary))
    assert len(others) <= 2
    assert all(o.modality in ("audio", "video") and o.prominence < 0.5 for o in others)
    assert clip.activity("audio")[:, clip.label].any()


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, split=st.sampled_from(SPLITS), block=st.integers(0, 10**5))
def test_each_block_has_every_event_once(seed: int, split: Split, block: int) -> None:
    world = World(seed=seed)
    start = block * len(EVENTS)
    labels = [world.clip(split, start + k).label for k in range(len(EVENTS))]
    following = [world.clip(split, start + len(EVENTS) + k).label for k in range(len(EVENTS))]
    assert sorted(labels) == sorted(following) == list(range(len(EVENTS)))
    assert labels != following


def test_splits_share_no_clip() -> None:
    world = World(seconds=1)
    clips = [world.clip(split, index) for split in SPLITS for index in range(40)]
    assert len({clip.seed for clip in clips}) == len(clips)
    assert len({clip.audio_nuisance for clip in clips}) == len(clips)
    assert len({digest(clip.waveform()) for clip in clips}) == len(clips)
    assert len({clip.id for clip in clips}) == len(clips)


@pytest.mark.parametrize("rho", [-0.5, 0.0, 0.3, 0.9, 1.0])
def test_nuisance_is_correlated_as_set(rho: float) -> None:
    world = World(seed=2, nuisance_correlation=rho)
    clips = [world.clip("train", index) for index in range(500)]
    audio = np.array([clip.audio_nuisance for clip in clips])
    video = np.array([clip.video_nuisance for clip in clips])
    across = np.corrcoef(audio.T, video.T)[:NUISANCES, NUISANCES:]
    assert np.diag(across).mean() == pytest.approx(rho, abs=0.05)
    assert np.abs(across - np.diag(np.diag(across))).max() < 0.2
    assert video.std() == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_is_heard_and_seen_only_while_it_is_on(event: str) -> None:
    clip = clean_clip(event, (Occurrence(event, "both", 1.0, 3.0), Occurrence(event, "both", 4.0, 5.0)))
    loudness = np.square(clip.waveform()).reshape(6, -1).mean(1)
    on = clip.activity("audio")[:, clip.label]
    assert on.tolist() == clip.activity("video")[:, clip.label].tolist() == [0, 1, 1, 0, 1, 0]
    assert loudness[on].min() > 1e-4 > 1e-8 > loudness[~on].max()
    frames = clip.frames(4, 48, 48)
    wall = dataclasses.replace(clip, occurrences=()).frames(4, 48, 48)
    changed = (np.abs(frames.astype(int) - wall) > 20).any(-1).mean((1, 2, 3))
    assert changed[on].min() > 0.12
    assert changed[~on].max() == 0
    assert np.ptp(frames[on].reshape(-1, 48, 48, 3).astype(int), axis=0).mean() > 2


@pytest.mark.parametrize("sense", ["audio", "video"])
def test_a_secondary_event_reaches_one_sense_only(sense: str) -> None:
    world = World(seconds=3)
    clip, other = next(
        (clip, o)
        for clip in (world.clip("test", index) for index in range(100))
        for o in clip.occurrences
        if o.modality == sense
    )
    without = dataclasses.replace(clip, occurrences=tuple(o for o in clip.occurrences if o is not other))
    same_sound = np.array_equal(clip.waveform(), without.waveform())
    same_picture = np.array_equal(clip.frames(4, 48, 48), without.frames(4, 48, 48))
    assert (same_sound, same_picture) == (sense == "video", sense == "audio")
    interval = {"audio": other.interval("audio"), "video": other.interval("video")}
    assert interval[sense] == (other.onset, other.offset)
    assert [s for s in interval if interval[s] is None] == [s for s in ("audio", "video") if s != sense]


def test_the_picture_lags_the_sound_as_told() -> None:
    event = EVENTS[0]
    clip = clean_clip(event, (Occurrence(event, "both", 1.0, 2.45, lag=0.08),), seconds=3)
    assert clip.activity("audio")[:, clip.label].tolist() == [False, True, False]
    assert clip.activity("video")[:, clip.label].tolist() == [False, True, True]


def test_a_moment_looks_the_same_at_any_frame_rate() -> None:
    for index in range(len(EVENTS)):
        clip = World(seconds=2, nuisance_strength=0.0).clip("train", index)
        alone, among_three = clip.frames(1, 48, 48)[:, 0], clip.frames(3, 48, 48)[:, 1]
        unlike = np.abs(alone.astype(int) - among_three) > 2
        assert unlike.mean() < 0.005, clip.event


def test_sensor_noise_is_new_in_every_frame_and_as_strong_as_told() -> None:
    filming = dataclasses.replace(Filming.from_latents([0.0] * NUISANCES, 1.0), noise=0.05)
    camera = Camera(Seed(0, 0, 0), filming, 64, 64)
    shots = [camera.expose(np.full((3, 2, 64, 64), 0.5, np.float32), second) for second in (0, 1)]
    frames = np.concatenate(shots).astype(float)
    assert frames.std(axis=(1, 2, 3)) == pytest.approx(0.05 * 255, rel=0.05)
    likeness = np.corrcoef(frames.reshape(4, -1)) - np.eye(4)
    assert np.abs(likeness).max() < 0.1


@pytest.mark.parametrize("event", EVENTS)
def test_a_sound_of_any_length_and_rate_is_finite(event: str) -> None:
    for rate in (8000, 48000):
        for length in (1, 160, rate // 3, 2 * rate):
            sound = SOUNDS[event](Voice(np.random.default_rng(length), rate, length))
            assert sound.dtype == np.float32
            assert sound.shape == (length,)
            assert np.isfinite(sound).all()
        assert np.square(sound).mean() > 0


def exclusive_words() -> dict[str, str]:
    """Words that the phrases of exactly one event use, with that event."""
    users: dict[str, set[str]] = {}
    for event, phrases in PHRASES.items():
        texts = [*phrases.subjects, *(form for action in phrases.actions for form in action)]
        for word in " ".join([event, *texts]).split():
            users.setdefault(word, set()).add(event)
    return {w: next(iter(e)) for w, e in users.items() if len(e) == 1 and w not in FUNCTION_WORDS}


@pytest.mark.parametrize("event", EVENTS)
def test_captions_tell_their_event_and_no_other(event: str) -> None:
    owner = exclusive_words()
    random = np.random.default_rng(0)
    captions = {caption(event, random) for _ in range(400)}
    assert len(captions) > 200
    words_used = set()
    for text in captions:
        words = "".join(c if c.isalpha() else " " for c in text.lower()).split()
        assert 3 <= len(text.split()) <= 14, text
        assert {owner[word] for word in words if word in owner} <= {event}, text
        words_used.update(words)
    assert len([word for word in words_used if owner.get(word) == event]) >= 3
    assert any(text.isupper() for text in captions)
    assert any(text[-1] in ".!" for text in captions)


def test_some_words_belong_to_several_events() -> None:
    ringing = [event for event, phrases in PHRASES.items() if ("rings", "ringing") in phrases.actions]
    assert ringing == ["bell", "telephone"]


def spectrum(clip: Clip) -> np.ndarray:
    """Mean and spread over time of the log power in 24 bands spaced evenly on a log-frequency axis."""
    power = np.abs(np.fft.rfft(clip.waveform().reshape(-1, 400) * np.hanning(400))) ** 2
    edges = np.geomspace(2, 200, 25).astype(int)
    bands = np.log(np.add.reduceat(power, edges[:-1], axis=1) + 1e-3)
    return np.concatenate([bands.mean(0), bands.std(0)])


def texture(clip: Clip) -> np.ndarray:
    """Edge directions, coarse colours and change over time, each averaged over the frame."""
    frames = clip.frames(4, 64, 64).reshape(-1, 64, 64, 3)
    grey = frames.mean(-1)
    down, right = np.gradient(grey, axis=(1, 2))
    direction = (np.arctan2(down, right) % np.pi / np.pi * 9).astype(int) % 9
    edges = np.bincount(direction.ravel(), np.hypot(down, right).ravel(), minlength=9) / grey.size
    coarse = frames.reshape(-1, 3) // 64
    colours = np.bincount(coarse @ np.array([16, 4, 1]), minlength=64) / len(coarse)
    change = np.abs(np.diff(grey, axis=0))
    return np.concatenate([edges, np.sqrt(colours), [change.mean(), change.std()]])


@pytest.mark.parametrize("describe", [spectrum, texture])
def test_one_sense_is_enough_to_tell_the_event(describe: object) -> None:
    assert callable(describe)
    world = World(seconds=3)
    blocks_of: dict[Split, int] = {"train": 8, "test": 3}
    sets = {}
    for split, blocks in blocks_of.items():
        clips = [world.clip(split, index) for index in range(blocks * len(EVENTS))]
        sets[split] = np.array([describe(c) for c in clips]), [c.label for c in clips]
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, C=0.1)).fit(*sets["train"])
    assert probe.score(*sets["test"]) > 0.7


@pytest.mark.parametrize(
    "setting",
    [
        {"seed": -1},
        {"seed": 2**32},
        {"seconds": 0},
        {"seconds": 61},
        {"nuisance_correlation": 1.1},
        {"nuisance_correlation": float("nan")},
        {"nuisance_strength": -0.1},
        {"sample_rate": 100},
    ],
)
def test_a_setting_out_of_range_is_named(setting: dict[str, float]) -> None:
    with pytest.raises(TrainingError, match=next(iter(setting))):
        World(**setting)  # type: ignore[arg-type]


def test_clips_and_frames_that_cannot_be_are_refused() -> None:
    world = World()
    with pytest.raises(TrainingError, match="splits are train, validation, test"):
        world.clip("dev", 0)  # type: ignore[arg-type]
    with pytest.raises(TrainingError, match="no clip -1"):
        world.clip("train", -1)
    with pytest.raises(TrainingError, match="8 x 64"):
        world.clip("train", 0).frames(4, 8, 64)
    with pytest.raises(TrainingError, match="0 frames"):
        world.clip("train", 0).frames(0, 64, 64)
