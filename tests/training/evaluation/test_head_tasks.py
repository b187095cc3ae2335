"""AVE, AVVP, AVE to AVVP and UCF to VGGSound on small stores: what codes say is found, and clips are kept apart."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tessera.errors import TrainingError
from tessera.windows import Modality
from tests.training.evaluation.known import (
    CLASSES,
    events,
    every_second,
    speaking_coder,
    write_ave,
    write_every_store,
    write_store,
)
from training.data.selection import Selection
from training.evaluation.coder import Coded, Coder
from training.evaluation.scores import Document, task_scores
from training.evaluation.tasks.ave import open_ave
from training.evaluation.tasks.ave_avvp import open_ave_avvp
from training.evaluation.tasks.avvp import open_avvp
from training.evaluation.tasks.heads import EventTask, HeadTask
from training.evaluation.tasks.parts import is_for_fitting, names_of, sides, whole
from training.evaluation.tasks.task import Settings, Task
from training.evaluation.tasks.ucf_vgg import film_of, open_ucf_vgg

OPENERS = {"ave": open_ave, "avvp": open_avvp, "ave-avvp": open_ave_avvp, "ucf-vgg": open_ucf_vgg}
PAPER = Settings(protocol="paper")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stores")
    write_every_store(folder)
    return folder


class Deaf(Coder):
    """Codes of other clips than those that are asked for: nothing can be learnt from them."""

    def __init__(self, coder: Coder) -> None:
        self.coder, self.modalities, self.sizes = coder, coder.modalities, coder.sizes

    def encode(self, part: Selection, modality: Modality, dropout_seed: int | None = None) -> Coded:
        coded = self.coder.encode(part, modality)
        clips, time = coded.codes.shape[:2]
        order = torch.randperm(clips * time, generator=torch.Generator().manual_seed(len(part)))
        mixed = [z.flatten(0, 1)[order].unflatten(0, (clips, time)) for z in (coded.codes, coded.vectors)]
        return Coded(mixed[0], coded.real, mixed[1])


class Counting(Coder):
    """Notes which clips are encoded, and under which dropout."""

    def __init__(self) -> None:
        self.coder = speaking_coder()
        self.modalities, self.sizes = self.coder.modalities, self.coder.sizes
        self.asked: list[tuple[Modality, frozenset[str], int | None]] = []

    def encode(self, part: Selection, modality: Modality, dropout_seed: int | None = None) -> Coded:
        self.asked.append((modality, names_of(part), dropout_seed))
        return self.coder.encode(part, modality)


def sharpened(task: Task) -> Task:
    """The same with a rate at which a few clips are enough."""
    assert isinstance(task, HeadTask)
    task.fitting = replace(task.fitting, learning_rate=2e-2, milestones=(40,), batch_size=20, epochs=50)
    return task


def scored(task: Task, coder: Coder, seeds: int = 1) -> Document:
    return task_scores(task, [task.score(coder, seeds)])


@pytest.mark.parametrize("protocol", [Settings(), PAPER], ids=lambda s: s.protocol)
@pytest.mark.parametrize("name", OPENERS)
def test_codes_that_say_the_class_are_understood_in_the_other_modality(
    name: str, protocol: Settings, data: Path
) -> None:
    scores = scored(sharpened(OPENERS[name](data, protocol)), speaking_coder())
    assert set(scores["directions"]) == {"audio -> video", "video -> audio"}
    for value in [*scores["directions"].values(), *scores["within"].values()]:
        assert value["mean"] > 0.97
    assert scores["chance"] < 0.75


@pytest.mark.parametrize("name", ["ave", "ucf-vgg"])
def test_codes_of_other_clips_are_worth_a_guess(name: str, data: Path) -> None:
    task = sharpened(OPENERS[name](data, Settings()))
    scores = scored(task, Deaf(speaking_coder()), seeds=5)
    # A test has some twenty clips: of them a guess has a quarter right, give or take a tenth.
    assert abs(scores["mean"]["mean"] - 1 / CLASSES) < 0.25
    assert scores["heads"] == 5
    assert scores["mean"]["half_width"] is not None


@pytest.mark.parametrize("name", OPENERS)
def test_held_out_clips_are_in_no_fitting(name: str, data: Path) -> None:
    coder = Counting()
    task = OPENERS[name](data, Settings(epochs=3))
    assert isinstance(task, HeadTask)
    task.score(coder, 2)
    fitted = {m: names_of(part) for m, part in task.fit.items()}
    tested = {m: names_of(part) for m, part in task.test.items()}
    for source in fitted.values():
        for target in tested.values():
            assert source
            assert target
            assert not source & target
    # Every clip is encoded once, whatever the number of epochs and heads.
    assert [seed for *_, seed in coder.asked] == [None] * 4
    assert {(m, names) for m, names, _ in coder.asked} == {*fitted.items(), *tested.items()}


def test_the_released_protocol_tests_on_the_clips_of_the_fitting_and_says_so(data: Path) -> None:
    task = open_ave(data, PAPER)
    assert isinstance(task, HeadTask)
    assert names_of(task.fit["audio"]) == names_of(task.test["video"])
    assert task.clips == {"fit": 60, "test": 60}
    assert "clips that the head was fitted on" in task.caption
    assert "best figure on the tested clips" in task.caption
    assert "best figure" not in open_ave(data, Settings()).caption


def test_the_released_protocol_drops_out_anew_in_every_epoch(data: Path) -> None:
    coder = Counting()
    open_ave(data, replace(PAPER, epochs=3)).score(coder, 2)
    for modality in ("audio", "video"):
        assert [seed for m, _, seed in coder.asked if m == modality] == [None, 0, 1, 2, 1000, 1001, 1002]


def test_the_released_protocol_takes_the_best_epoch_of_each_direction(data: Path) -> None:
    """Epochs are the same epochs however many follow: where figures go up and down, what is reported only goes up."""
    reported: list[dict[str, float]] = []
    for epochs in range(1, 7):
        task = open_ave(data, replace(PAPER, epochs=epochs))
        assert isinstance(task, HeadTask)
        task.fitting = replace(task.fitting, learning_rate=0.3)
        figures = scored(task, Deaf(speaking_coder()))["figures"]
        reported.append({name: one["accuracy"]["mean"] for name, one in figures.items()})
    for fewer, more in itertools.pairwise(reported):
        assert all(more[name] >= fewer[name] for name in fewer)
    assert len({tuple(one.values()) for one in reported}) > 1


def test_released_epochs_and_figures_depend_on_the_scripts(data: Path) -> None:
    found = {
        (name, column): task.fitting.epochs
        for name, opener in OPENERS.items()
        for column in ("dcid", "toc", "fcid")
        if isinstance(task := opener(data, Settings(column=column)), HeadTask)  # type: ignore[arg-type]
    }
    assert [found["ave", c] for c in ("dcid", "toc", "fcid")] == [30, 50, 25]
    assert [found["avvp", c] for c in ("dcid", "toc", "fcid")] == [50, 100, 50]
    assert [found["ave-avvp", c] for c in ("dcid", "toc", "fcid")] == [50, 100, 50]
    assert [found["ucf-vgg", c] for c in ("dcid", "toc", "fcid")] == [30, 100, 80]
    assert open_avvp(data, PAPER).metric == "precision"
    assert open_avvp(data, replace(PAPER, column="fcid")).metric == "f1"
    assert open_avvp(data, Settings()).metric == "f1"
    assert open_ave_avvp(data, PAPER).metric == "f1"


def test_a_clip_is_on_one_side_in_every_store(data: Path) -> None:
    task = open_avvp(data, Settings())
    assert isinstance(task, EventTask)
    assert names_of(task.fit["audio"]) == names_of(task.fit["video"])
    sides = [is_for_fitting(f"clip {i}") for i in range(4_000)]
    assert 0.67 < np.mean(sides) < 0.73


def test_clips_of_one_film_are_on_one_side(tmp_path: Path) -> None:
    """UCF101 has some five clips of each film, and they look alike."""
    labels = np.arange(80) % CLASSES
    ids = [f"v_Class{label}_g{i // 16 + 1:02}_c{i // 4 % 4 + 1:02}" for i, label in enumerate(labels)]
    write_store(tmp_path, "ucf", every_second(labels), labels=labels, ids=ids)
    write_store(tmp_path, "vgg", every_second(labels), labels=labels)
    task = open_ucf_vgg(tmp_path, Settings())
    assert isinstance(task, HeadTask)
    sides = [{film_of(name) for name in part["video"].names} for part in (task.fit, task.test)]
    assert not sides[0] & sides[1]
    assert len(sides[0] | sides[1]) < 80
    assert "cut from one film" in task.caption


@pytest.mark.parametrize(
    ("name", "film"),
    [
        ("v_SoccerJuggling_g07_c03", "v_SoccerJuggling_g07"),
        ("v_SoccerJuggling_g07_c03.avi", "v_SoccerJuggling_g07"),
        ("-0SdAVK79lg_c01", "-0SdAVK79lg_c01"),
    ],
)
def test_the_film_of_a_clip_is_in_its_name(name: str, film: str) -> None:
    assert film_of(name) == film


def test_where_every_tested_clip_was_fitted_on_none_is_scored(tmp_path: Path) -> None:
    for name in ("ave-avvp", "ave-avvp-audio", "ave-avvp-video"):
        write_store(tmp_path, name, events(5, 0), ids=list("abcde"), segments=True)
    with pytest.raises(TrainingError, match="all 5 clips to test on are fitted on too"):
        open_ave_avvp(tmp_path, Settings())
    assert open_ave_avvp(tmp_path, PAPER).clips == {"fit": 5, "test": 5}


def test_clips_of_both_data_sets_are_tested_on_by_the_released_protocol_alone(data: Path) -> None:
    fair, released = open_ave_avvp(data, Settings()), open_ave_avvp(data, PAPER)
    assert fair.clips == {"fit": 60, "test": 40}
    assert released.clips == {"fit": 60, "test": 60}


def test_only_clips_of_one_set_can_agree(data: Path) -> None:
    assert (
        scored(sharpened(open_ave(data, Settings())), speaking_coder())["agreement"]["audio and video"] == 1
    )
    assert scored(sharpened(open_ucf_vgg(data, Settings())), speaking_coder())["agreement"] == {}


def test_background_is_guessed_without_codes(tmp_path: Path) -> None:
    """Six of ten seconds are background: saying so of all of them is right in six of ten cells."""
    write_store(tmp_path, "ave-avvp", events(30, 0), segments=True)
    for modality in ("audio", "video"):
        write_store(tmp_path, f"ave-avvp-{modality}", events(30, 1), segments=True)
    assert open_ave_avvp(tmp_path, Settings()).chance["audio", "video"] == pytest.approx(0.6)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="--data"):
        open_ave(None, Settings())
    with pytest.raises(TrainingError, match="ave"):
        open_ave(tmp_path, Settings())
    write_store(tmp_path, "ave", every_second(np.arange(8) % CLASSES), splits={"train": np.arange(4)})
    with pytest.raises(TrainingError, match="one of the 4 classes"):
        open_ave(tmp_path, PAPER)
    with pytest.raises(TrainingError, match="no split 'test'"):
        open_ave(tmp_path, Settings())
    store = write_store(tmp_path, "ucf", every_second(np.arange(1)), labels=np.arange(1))
    with pytest.raises(TrainingError, match="too few"):
        sides({"video": whole(store, Settings())})


def test_a_store_keeps_its_rows_on_the_disk(tmp_path: Path) -> None:
    """A split with gaps is read row by row: a copy of the pictures of AVE would be gigabytes."""
    store = write_ave(tmp_path)
    task = open_ave(tmp_path, Settings())
    assert isinstance(task, HeadTask)
    video = task.fit["video"].features.video
    assert isinstance(video, np.memmap)
    assert len(video) == len(store)
