"""Files of weights: what is read, and what is refused without running anything in it."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tessera.errors import TrainingError
from training.backbones.weights import Weights

TENSORS = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.ones(2)}


class _Code:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.mark),)


def _legacy(path: Path) -> None:
    torch.save(TENSORS, path, _use_new_zipfile_serialization=False)


WRITERS: dict[str, Callable[[Path], object]] = {
    "new.pth": lambda path: torch.save(TENSORS, path),
    "old.pth": _legacy,
    "safe.safetensors": lambda path: save_file(TENSORS, path),
    "arrays.npz": lambda path: np.savez(path, **{name: t.numpy() for name, t in TENSORS.items()}),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_is_read(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name)
    layer = nn.Linear(3, 2)
    Weights.read(tmp_path / name).fill(layer, "layer")
    assert torch.equal(layer.weight, TENSORS["weight"])
    assert torch.equal(layer.bias, TENSORS["bias"])


@pytest.mark.parametrize("name", WRITERS)
def test_a_cut_file_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    WRITERS[name](path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(TrainingError, match=rf"^'{name}' is damaged"):
        Weights.read(path)


@pytest.mark.parametrize("name", ["a.pth", "a.npz", "a.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not weights", b"\x80\x04N."])
def test_another_file_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TrainingError, match=rf"^'{name}' "):
        Weights.read(tmp_path / name)


def test_code_is_refused_and_not_run(tmp_path: Path) -> None:
    code = _Code(tmp_path / "was run")
    torch.save({"weight": code}, tmp_path / "new.pth")
    torch.save({"weight": code}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(code))
    np.savez(tmp_path / "a.npz", weight=np.array([code], dtype=object))
    for name in ("new.pth", "old.pth", "plain.pth", "a.npz"):
        with pytest.raises(TrainingError, match=rf"^'{name}' "):
            Weights.read(tmp_path / name)
    assert not code.mark.exists()


@pytest.mark.parametrize(
    ("saved", "sentence"),
    [
        ([torch.ones(2)], "holds an object of type list, expected tensors by name"),
        ({"epoch": 3}, "'epoch' is no tensor of floating-point numbers"),
        ({"weight": torch.ones(2, 3, dtype=torch.int64)}, "'weight' is no tensor of floating-point numbers"),
        ({"weight": np.array(["a"])}, "holds more than tensors"),
    ],
)
def test_what_is_no_table_of_tensors_is_refused(tmp_path: Path, saved: object, sentence: str) -> None:
    torch.save(saved, tmp_path / "w.pth")
    with pytest.raises(TrainingError) as raised:
        Weights.read(tmp_path / "w.pth")
    assert str(raised.value).startswith("'w.pth'")
    assert sentence in str(raised.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"there is no file of weights '.*none\.pth'"):
        Weights.read(tmp_path / "none.pth")
