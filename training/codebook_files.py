"""Codebooks out of files of any model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from tessera.errors import TrainingError

_LISTED = 12
# Names that codebooks go by in other models; they come first where the tensors of a file are listed.
_LIKELY = ("codebook", "embed", "quanti", "vq")


def read_codebooks(path: Path, wanted: str | None = None) -> list[Tensor]:
    """The codebooks [K, D] in a file, one a level: those of its tensor [K, D] or [levels, K, D], codes in rows.

    `wanted` names the tensor where the file holds several that it could be.

    Raises:
        TrainingError: there is no such file, it cannot be read, or it does not say which tensor is meant.
    """
    found = _tensor(path, wanted)
    return [found] if found.dim() == 2 else list(found)


def _tensor(path: Path, wanted: str | None) -> Tensor:
    if not path.exists():
        raise TrainingError(f"there is no file or folder '{path}'")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise TrainingError(f"'{path.name}' is no run, no checkpoint and none of {', '.join(_READERS)}")
    tensors = reader(path)
    candidates = {name: t for name, t in tensors.items() if _may_be_a_codebook(t)}
    if wanted is not None:
        return _chosen(path, wanted, tensors, candidates)
    if not candidates:
        raise TrainingError(f"'{path.name}' holds no tensor [codes, channels] or [levels, codes, channels]")
    if len(candidates) > 1:
        raise TrainingError(f"'{path.name}' holds several tensors; choose with --tensor: {_list(candidates)}")
    return next(iter(candidates.values()))


def _may_be_a_codebook(tensor: Tensor) -> bool:
    plain = tensor.is_floating_point() and tensor.layout is torch.strided
    return plain and tensor.dim() in (2, 3) and tensor.numel() > 0


def _chosen(
    path: Path, wanted: str, tensors: Mapping[str, Tensor], candidates: Mapping[str, Tensor]
) -> Tensor:
    if wanted in candidates:
        return candidates[wanted]
    if wanted in tensors:
        kind = f"{_shape(tensors[wanted])} of {str(tensors[wanted].dtype).removeprefix('torch.')}"
        raise TrainingError(f"'{wanted}' is {kind}; a codebook is real numbers [codes, channels]")
    could_be = f"; it could be {_list(candidates)}" if candidates else ""
    raise TrainingError(f"'{path.name}' holds no tensor '{wanted}'{could_be}")


def _list(tensors: Mapping[str, Tensor]) -> str:
    names = sorted(tensors, key=lambda name: not any(part in name.lower() for part in _LIKELY))
    listed = [f"{name or '(unnamed)'} {_shape(tensors[name])}" for name in names[:_LISTED]]
    left = len(names) - len(listed)
    return ", ".join(listed) + (f" and {left} more" if left else "")


def _shape(tensor: Tensor) -> str:
    return str(list(tensor.shape))


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError):
        raise _unreadable(path, "safetensors") from None


def _read_npy(path: Path) -> dict[str, Tensor]:
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError):
        raise _unreadable(path, "NumPy") from None
    if array.dtype.kind != "f":
        raise TrainingError(f"'{path.name}' holds no real numbers but {array.dtype.name}")
    return {"": torch.from_numpy(array.astype(np.float64))}


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:
        # A foreign or damaged file fails in as many ways as there are steps of reading it.
        raise _unreadable(path, "PyTorch", " of tensors alone") from None
    return dict(_tensors("", content))


def _tensors(name: str, content: Any) -> Iterator[tuple[str, Tensor]]:
    """The tensors in nested dictionaries, named by their way through them."""
    if isinstance(content, Tensor):
        yield name, content.detach()
    elif isinstance(content, Mapping):
        for key, value in content.items():
            yield from _tensors(f"{name}.{key}" if name else str(key), value)


def _unreadable(path: Path, kind: str, more: str = "") -> TrainingError:
    return TrainingError(f"'{path.name}' is damaged, or no {kind} file{more}")


_READERS: dict[str, Callable[[Path], dict[str, Tensor]]] = {
    ".safetensors": _read_safetensors,
    ".npy": _read_npy,
    ".pt": _read_torch,
    ".pth": _read_torch,
    ".ckpt": _read_torch,
    ".bin": _read_torch,
}
