"""Released files, read without running anything that is in them (docs/models.md 5)."""

from __future__ import annotations

import hashlib
import io
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tessera.errors import TrainingError
from training.unpickling import CodeFound, PlainUnpickler

ENCODER, TEXT_LSTM = "Encoder_parameters", "Text_ar_lstm_parameters"
SUFFIX = "_parameters"
"""What the names of a file's modules end with; everything else in it is a number or belongs to an optimiser."""

BERT_VOCABULARY = 30_522
_VOCABULARY_BYTES = 1 << 20


@dataclass(frozen=True)
class ReleasedFile:
    """What a released file holds: tensors named `module/key` as the file has them, and how far its training was."""

    name: str
    sha256: str
    tensors: Mapping[str, Tensor]
    epoch: int | None
    step: int | None

    def modules(self) -> set[str]:
        """The modules that it holds weights of."""
        return {key.partition("/")[0] for key in self.tensors}


def read_released(path: Path) -> ReleasedFile:
    """The weights of a released file, mapped into memory where its format allows it.

    The state dict of an encoder by itself will do too.

    Raises:
        TrainingError: there is no such file, it is damaged, it holds more than tensors and plain values, or no weights.
    """
    saved = _load(path)
    if ENCODER not in saved and saved and all(isinstance(value, Tensor) for value in saved.values()):
        saved = {ENCODER: saved}
    if not isinstance(saved.get(ENCODER), Mapping):
        found = ", ".join(sorted(map(str, saved))[:8]) or "nothing"
        raise TrainingError(f"'{path.name}' is no released checkpoint: expected '{ENCODER}', found {found}")
    modules = {name: value for name, value in saved.items() if str(name).endswith(SUFFIX)}
    return ReleasedFile(
        name=path.name,
        sha256=_sha256(path),
        tensors={
            f"{name}/{key}": tensor for name, part in modules.items() for key, tensor in _tensors(name, part)
        },
        epoch=_count(saved.get("epoch")),
        step=_count(saved.get("total_step")),
    )


def read_text_vocabulary(path: Path) -> list[int]:
    """The ids in BERT's vocabulary of the words that the published text features keep, in the order of `cnt.pkl`.

    Raises:
        TrainingError: it is not a pickled dict of BERT ids to 0, 1, 2 ..., and of nothing else.
    """
    expected = f"'{path.name}' is no text vocabulary: expected a pickled dict of BERT ids to 0, 1, 2 ..."
    try:
        with path.open("rb") as file:
            data = file.read(_VOCABULARY_BYTES + 1)
    except OSError:
        raise TrainingError(f"'{path}' cannot be read") from None
    if len(data) > _VOCABULARY_BYTES:
        raise TrainingError(f"{expected}, found a file of more than {_VOCABULARY_BYTES} bytes")
    ranks = _plain_values(data, expected)
    if not isinstance(ranks, dict) or not ranks:
        raise TrainingError(f"{expected}, found {type(ranks).__name__}")
    if any(type(number) is not int for pair in ranks.items() for number in pair):
        raise TrainingError(f"{expected}, found entries that are no integers")
    if not all(0 <= token < BERT_VOCABULARY for token in ranks):
        raise TrainingError(f"{expected}, found keys outside 0 to {BERT_VOCABULARY - 1}")
    if sorted(ranks.values()) != list(range(len(ranks))):
        raise TrainingError(f"{expected}, found values that are not 0 to {len(ranks) - 1}, each once")
    return sorted(ranks, key=ranks.__getitem__)


def _plain_values(data: bytes, expected: str) -> object:
    try:
        return PlainUnpickler(io.BytesIO(data)).load()
    except CodeFound as found:
        raise TrainingError(f"{expected}, found '{found}', which could run code: refused") from None
    except Exception:  # Damaged bytes lead to errors of every kind.
        raise TrainingError(f"{expected}, found no pickle") from None


def _load(path: Path) -> Mapping[Any, Any]:
    """What `torch.save` wrote.

    Raises:
        TrainingError: it is unreadable, unsafe, or no dict.
    """
    if not path.is_file():
        raise TrainingError(f"there is no file '{path}'")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mapped = zipfile.is_zipfile(path)
            saved = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # Damaged bytes lead to errors of every kind.
        raise TrainingError(f"'{path.name}' {_fault(path, error)}") from None
    if not isinstance(saved, Mapping):
        found = type(saved).__name__
        raise TrainingError(f"'{path.name}' is no released checkpoint: expected a dict, found {found}")
    return saved


def _fault(path: Path, error: Exception) -> str:
    """What is wrong with a file that torch refuses to load."""
    if not isinstance(error, pickle.UnpicklingError):
        return "is damaged, cut off, or no file of torch.save"
    try:
        objects = ", ".join(sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path)))
    except Exception:  # Only of newer files does torch say which objects they hold.
        objects = "Python objects or damaged data"
    return f"holds more than tensors and numbers, which could run code: refused (found {objects or 'unknown data'})"


def _tensors(name: str, part: object) -> list[tuple[str, Tensor]]:
    if not isinstance(part, Mapping):
        raise TrainingError(f"'{name}' is {type(part).__name__}, expected tensors by name")
    for key, value in part.items():
        if not isinstance(value, Tensor) or value.layout != torch.strided or not value.is_floating_point():
            raise TrainingError(f"'{name}': '{key}' is no tensor of floating-point numbers")
    return [(str(key), value) for key, value in part.items()]


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
