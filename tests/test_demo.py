"""The demo bundle is what its model card says: small, whole, and one alphabet for three modalities."""

from __future__ import annotations

import numpy as np
import pytest

from tessera import Tokenizer
from tessera.bundle import DEMO
from tessera.scores import percent
from training.data.clips import write_mp4, write_wav
from training.data.world import EVENTS, World
from training.evaluation.probe import cross_modal_accuracy

SOME = range(0, len(EVENTS), 3)
"""The events that are tested, by their labels: a third, for drawing a film takes its time."""
FIT, TEST = 3, 2
"""Clips of each event that the probe is fitted on, and others that it is tested on."""


def test_it_is_under_eight_megabytes() -> None:
    assert sum(file.stat().st_size for file in DEMO.iterdir()) < 8_000_000


def test_its_card_states_scores_of_five_seeds() -> None:
    scores = Tokenizer.load().manifest.provenance.scores
    assert scores["seeds"] == [0, 1, 2, 3, 4]
    directions = scores["directions"]
    assert isinstance(directions, dict)
    assert len(directions) == 6
    card = (DEMO / "README.md").read_text()
    for name, value in directions.items():
        assert f"| {name} | {percent(value)} |" in card


@pytest.fixture(scope="module")
def pooled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """Pooled embeddings of real files, as `tessera data world` writes them, of clips that lie behind every split."""
    tokenizer, folder = Tokenizer.load(), tmp_path_factory.mktemp("world")
    data = tokenizer.manifest.provenance.recipe["data"]
    assert isinstance(data, dict)
    world, first = World(**data["world"]), data["clips"]["test"] + 1_000 * len(EVENTS)
    rows: dict[str, list[np.ndarray]] = {"audio": [], "video": [], "text": [], "labels": []}
    clips = (world.clip("test", first + index) for index in range((FIT + TEST) * len(EVENTS)))
    for clip in (clip for clip in clips if clip.label in SOME):
        write_wav(folder / "clip.wav", clip)
        write_mp4(folder / "clip.mp4", clip, fps=4, with_sound=False)
        rows["audio"].append(tokenizer.encode(folder / "clip.wav").pooled)
        rows["video"].append(tokenizer.encode(folder / "clip.mp4").pooled)
        rows["text"].append(tokenizer.encode_text(clip.caption).pooled)
        rows["labels"].append(np.array(clip.label))
    return {name: np.stack(values) for name, values in rows.items()}


def test_a_probe_fitted_on_one_modality_works_on_the_others(pooled: dict[str, np.ndarray]) -> None:
    """The card's protocol on raw files, with far fewer clips: far above the 10 % of chance in every direction."""
    cut = FIT * len(SOME)
    fit = {name: pooled[name][:cut] for name in ("audio", "video", "text")}
    test = {name: pooled[name][cut:] for name in ("audio", "video", "text")}
    accuracies = cross_modal_accuracy(fit, pooled["labels"][:cut], test, pooled["labels"][cut:])  # type: ignore[arg-type]
    for pair, accuracy in accuracies.items():
        assert accuracy > 0.5, (pair, accuracies)
