"""Retrieval on small stores: captions of an item, chance, ties, and which data sets take part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tessera.errors import TrainingError
from tessera.windows import Modality
from tests.training.evaluation.known import (
    CLASSES,
    every_second,
    speaking_coder,
    write_retrieval,
    write_store,
)
from training.data.selection import Selection
from training.evaluation.controls import TableCoder
from training.evaluation.scores import task_scores
from training.evaluation.tasks.retrieval import open_retrieval
from training.evaluation.tasks.task import Settings

ALL = ("audio", "video", "text")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stores")
    write_retrieval(folder)
    return folder


@pytest.mark.parametrize("protocol", ["held_out", "paper"])
def test_what_says_the_same_is_found_first(data: Path, protocol: str) -> None:
    tasks = open_retrieval(data, Settings(protocol), ALL)  # type: ignore[arg-type]
    assert [task.name for task in tasks] == ["mscoco", "clotho", "flickrsound"]
    for task in tasks:
        result = task.score(speaking_coder(), 1)
        for figures in result.outcomes[0].values():
            assert figures["R@1"] == pytest.approx(1)
            assert figures["mean rank"] == pytest.approx(1)


class Mute(TableCoder):
    """Its codes of whole clips say nothing."""

    def clip_vectors(self, part: Selection, modality: Modality) -> Tensor:
        return torch.ones(len(part), 3, dtype=torch.float64)


def test_the_released_protocol_alone_goes_by_the_code_of_the_whole_clip(tmp_path: Path) -> None:
    labels = np.arange(20)
    write_store(tmp_path, "flickrsound", every_second(labels % CLASSES), labels=labels % CLASSES)
    coder = Mute(speaking_coder().views, speaking_coder().tables)
    found = {}
    for protocol in ("held_out", "paper"):
        (task,) = open_retrieval(tmp_path, Settings(protocol), ALL)  # type: ignore[arg-type]
        found[protocol] = task.score(coder, 1).outcomes[0]["audio", "video"]["R@10"]
        assert task.chance["audio", "video"] == pytest.approx(0.5)
    assert found == pytest.approx({"held_out": 1.0, "paper": 0.5})


def test_several_captions_are_told_apart_from_one(data: Path) -> None:
    clotho = next(task for task in open_retrieval(data, Settings(), ALL) if task.name == "clotho")
    scores = task_scores(clotho, [clotho.score(speaking_coder(), 1)])
    assert set(scores["directions"]) == {"audio -> text", "text -> audio"}
    # Five captions say a clip's class and are its own: any of them is the first. A caption has one clip.
    assert scores["figures"]["audio -> text"]["mean rank"]["mean"] == 1
    assert scores["figures"]["text -> audio"]["mean rank"]["mean"] == 1
    assert scores["within"] == {}
    assert scores["clips"] == {"fit": 0, "test": CLASSES}
    assert scores["agreement"] == {}


def test_items_of_one_code_tie_and_share_the_ranks_between_them(tmp_path: Path) -> None:
    """Twenty clips of four codes, five of each: the right one is third of five on average."""
    labels = np.arange(20) % CLASSES
    write_store(tmp_path, "msvd", every_second(labels), labels=labels, texts=(labels, list(range(20))))
    (task,) = open_retrieval(tmp_path, Settings(), ALL)
    scores = task_scores(task, [task.score(speaking_coder(), 1)])
    for name in ("video -> text", "text -> video"):
        figures = scores["figures"][name]
        assert figures["R@1"]["mean"] == pytest.approx(0.2)
        assert figures["R@5"]["mean"] == pytest.approx(1)
        assert figures["mean rank"]["mean"] == pytest.approx(3)
        assert figures["median rank"]["mean"] == pytest.approx(3)
        assert scores["chances"][name] == pytest.approx(0.5)
    assert scores["metric"] == "R@10"


@pytest.mark.parametrize("split", ["test", "evaluation"])
def test_a_split_for_testing_is_what_counts(split: str, tmp_path: Path) -> None:
    labels = np.arange(12) % CLASSES
    two = (np.repeat(labels, 2), np.repeat(np.arange(12), 2).tolist())
    splits = {"development": np.arange(8), split: np.array([8, 9, 11])}
    write_store(tmp_path, "clotho", every_second(labels), labels=labels, texts=two, splits=splits)
    (task,) = open_retrieval(tmp_path, Settings(), ALL)
    assert task.clips["test"] == 3
    result = task.score(speaking_coder(), 1)
    assert len(result.coded["text"].codes) == 6
    assert result.outcomes[0]["text", "audio"]["R@1"] == pytest.approx(1)


def test_a_store_is_known_by_its_folder_whatever_it_calls_itself(tmp_path: Path) -> None:
    labels = np.arange(8) % CLASSES
    for name in ("flickrsound", "msvd"):
        write_store(tmp_path, "test", every_second(labels), labels=labels, texts=(labels, list(range(8))))
        (tmp_path / "test").rename(tmp_path / name)
    assert [task.name for task in open_retrieval(tmp_path, Settings(), ALL)] == ["flickrsound", "msvd"]


@pytest.mark.parametrize("every_slot", [False, True])
def test_empty_slots_of_a_caption_count_as_in_the_training(data: Path, every_slot: bool) -> None:
    (task,) = open_retrieval(data, Settings(every_slot=every_slot), ("audio", "text"))
    for modality, part in task.asked_for():
        masks = [mask for _, mask in part.batches(modality)]
        assert all((mask is None) is (every_slot or modality != "text") for mask in masks)


def test_a_model_takes_part_where_it_knows_both_sides(data: Path) -> None:
    assert [task.name for task in open_retrieval(data, Settings(), ("audio", "video"))] == ["flickrsound"]
    assert [task.name for task in open_retrieval(data, Settings(), ("audio", "text"))] == ["clotho"]


def test_where_there_is_nothing_to_retrieve_it_is_said(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="clotho"):
        open_retrieval(tmp_path, Settings(), ALL)
    with pytest.raises(TrainingError, match="--data"):
        open_retrieval(None, Settings(), ALL)
