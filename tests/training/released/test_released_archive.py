"""Files that would run code, damaged ones and foreign ones are refused with a sentence, and nothing in them is run."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tessera.errors import TrainingError
from tests.training.released import files
from training.released.archive import read_released, read_text_vocabulary

ENCODER = {"a.weight": torch.arange(6.0, dtype=torch.float64).view(2, 3)}


class Payload:
    """Pickles to a command that leaves a marker where it is run."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch '{self.marker}'",)


def test_the_payload_does_run_where_nothing_stops_it(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    pickle.loads(pickle.dumps(Payload(marker)))
    assert marker.exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_would_run_code_is_refused_and_not_run(zipped: bool, tmp_path: Path) -> None:
    marker, path = tmp_path / "ran", tmp_path / "model.pt"
    file = {"Encoder_parameters": ENCODER, "epoch": Payload(marker)}
    torch.save(file, path, _use_new_zipfile_serialization=zipped)
    named = r"posix\.system" if zipped else "Python objects"
    with pytest.raises(TrainingError, match=rf"could run code: refused \(found {named}"):
        read_released(path)
    assert not marker.exists()


@pytest.mark.parametrize("protocol", range(6))
def test_a_vocabulary_that_would_run_code_is_refused_and_not_run(protocol: int, tmp_path: Path) -> None:
    marker, path = tmp_path / "ran", tmp_path / "cnt.pkl"
    path.write_bytes(pickle.dumps({1037: 0, 1996: Payload(marker)}, protocol=protocol))
    with pytest.raises(TrainingError, match=r"found '(posix|nt)\.system', which could run code: refused"):
        read_text_vocabulary(path)
    assert not marker.exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_files_of_both_formats_of_torch_are_read(zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(
        {"Encoder_parameters": ENCODER, "epoch": 3, "total_step": 2000},
        path,
        _use_new_zipfile_serialization=zipped,
    )
    file = read_released(path)
    assert (file.name, file.epoch, file.step, file.modules()) == ("model.pt", 3, 2000, {"Encoder_parameters"})
    assert torch.equal(file.tensors["Encoder_parameters/a.weight"], ENCODER["a.weight"])


def test_a_file_saved_on_a_gpu_is_read_without_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.pt"
    with monkeypatch.context() as patched:
        patched.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        torch.save({"Encoder_parameters": ENCODER}, path)
    assert b"cuda:0" in path.read_bytes()
    tensor = read_released(path).tensors["Encoder_parameters/a.weight"]
    assert tensor.device.type == "cpu"
    assert torch.equal(tensor, ENCODER["a.weight"])


def test_the_state_dict_of_an_encoder_by_itself_will_do(tmp_path: Path) -> None:
    assert read_released(files.write(tmp_path / "model.pt", ENCODER)).modules() == {"Encoder_parameters"}


@pytest.mark.parametrize("content", [b"", b"hello world", b"PK\x03\x04 and no more", b"\x80\x02}q\x00."])
def test_what_torch_did_not_save_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    with pytest.raises(
        TrainingError, match=r"'model\.pt' (is damaged, cut off, or no file of torch\.save|holds)"
    ):
        read_released(path)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_a_file_that_was_cut_off_is_refused(zipped: bool, kept: float, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    tensors = {f"layer{index}.weight": torch.randn(50, 50) for index in range(4)}
    torch.save({"Encoder_parameters": tensors}, path, _use_new_zipfile_serialization=zipped)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(
        TrainingError, match=r"'model\.pt' (is damaged, cut off, or no file of torch\.save|holds)"
    ):
        read_released(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"there is no file '.*nothing\.pt'"):
        read_released(tmp_path / "nothing.pt")
    with pytest.raises(TrainingError, match=r"'.*nothing\.pkl' cannot be read"):
        read_text_vocabulary(tmp_path / "nothing.pkl")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], r"is no released checkpoint: expected a dict, found list"),
        ({}, r"expected 'Encoder_parameters', found nothing"),
        ({"model": ENCODER, "epoch": 3}, r"expected 'Encoder_parameters', found epoch, model"),
        ({"Encoder_parameters": 3}, r"expected 'Encoder_parameters', found Encoder_parameters"),
        (
            {"Encoder_parameters": {"a": "text"}},
            r"'Encoder_parameters': 'a' is no tensor of floating-point numbers",
        ),
        (
            {"Encoder_parameters": {"a": torch.ones(2, dtype=torch.int64)}},
            r"'a' is no tensor of floating-point",
        ),
        ({"Encoder_parameters": {"a": torch.eye(2).to_sparse()}}, r"'a' is no tensor of floating-point"),
        (
            {"Encoder_parameters": ENCODER, "CPC_parameters": [1]},
            r"'CPC_parameters' is list, expected tensors",
        ),
    ],
)
def test_a_file_of_something_else_is_told_what_was_expected(
    content: Any, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "model.pt"
    torch.save(content, path)
    with pytest.raises(TrainingError, match=message):
        read_released(path)


@pytest.mark.parametrize("protocol", range(6))
def test_a_vocabulary_is_read_in_the_order_of_its_values(protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "cnt.pkl"
    path.write_bytes(pickle.dumps({1996: 1, 1037: 0, 30521: 2}, protocol=protocol))
    assert read_text_vocabulary(path) == [1037, 1996, 30521]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1037, 1996], "found list"),
        ({}, "found dict"),
        ({"a": 0}, "found entries that are no integers"),
        ({1037: 0.0}, "found entries that are no integers"),
        ({1037: False}, "found entries that are no integers"),
        ({1037: 0, 30522: 1}, "found keys outside 0 to 30521"),
        ({-1: 0}, "found keys outside 0 to 30521"),
        ({1037: 0, 1996: 0}, "found values that are not 0 to 1, each once"),
        ({1037: 1, 1996: 2}, "found values that are not 0 to 1, each once"),
        ("x" * (1 << 20), "found a file of more than 1048576 bytes"),
    ],
)
def test_a_vocabulary_of_something_else_is_told_what_was_expected(
    content: Any, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "cnt.pkl"
    path.write_bytes(pickle.dumps(content))
    expected = r"'cnt\.pkl' is no text vocabulary: expected a pickled dict of BERT ids to 0, 1, 2 \.\.\., "
    with pytest.raises(TrainingError, match=expected + message):
        read_text_vocabulary(path)


def test_a_vocabulary_that_is_no_pickle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cnt.pkl"
    for content in (b"", b"hello", pickle.dumps({1037: 0})[:-3]):
        path.write_bytes(content)
        with pytest.raises(TrainingError, match="found no pickle"):
            read_text_vocabulary(path)
