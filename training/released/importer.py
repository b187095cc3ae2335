"""From a released file to a checkpoint of Tessera (docs/models.md 5)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn

from tessera.errors import TrainingError
from training.checkpoint import OPTIMIZER, ORIGIN, TrainingState, save_checkpoint
from training.models.catalogue import build_model
from training.released.archive import ENCODER, TEXT_LSTM, ReleasedFile, read_released, read_text_vocabulary
from training.released.formats import DCID, Family, Format, Match, identify
from training.released.keys import dead_part

TEXT_VOCABULARY = "text_vocabulary.json"

STEPS_PER_EPOCH = 510
"""Batches in an epoch of the published pretraining: 40,801 clips, 80 at a time."""


@dataclass(frozen=True)
class Imported:
    """What was found in a released file, and what became of it.

    `unused` counts the tensors of each part that has no effect or no place in the model; `untrained` are the modules
    that the file does not hold, which begin afresh.
    """

    file: ReleasedFile
    format: Format
    method: str
    codes: int
    step: int
    encoder: tuple[int, int]  # tensors and numbers in the file
    loaded: int
    fresh: int
    unused: dict[str, int]
    untrained: tuple[str, ...]
    words: int | None

    def may_be_micu(self) -> bool:
        """Whether a file of MICU would look just like this one, which was taken for DCID."""
        return self.format == DCID and self.file.modules() == {ENCODER, TEXT_LSTM}

    def origin(self) -> str:
        """What stands beside the weights as `released.json`."""
        document = {
            "file": self.file.name,
            "sha256": self.file.sha256,
            "format": str(self.format),
            "epoch": self.file.epoch,
            "unused": sorted(self.unused),
            "untrained": list(self.untrained),
        }
        return json.dumps(document, indent=1) + "\n"


def import_file(
    path: Path, out: Path, family: Family | None = None, vocabulary: Path | None = None
) -> Imported:
    """Write the checkpoint `out` with the weights of a released file, cast from float64 to float32.

    `vocabulary` is the authors' `cnt.pkl`. The training of the imported model can go on as released, its optimisers
    afresh.

    Raises:
        TrainingError: the file is unsafe, damaged, of no known format or incomplete, or `out` cannot be written.
    """
    if out.exists():
        raise TrainingError(f"'{out}' exists already")
    file = read_released(path)
    match = identify(file, family)
    words = _text_vocabulary(match.format, vocabulary)
    step = _step(file)
    model = _filled(match, step)
    imported = _account(file, match, model, step, words)
    extra = {ORIGIN: imported.origin()}
    if words is not None:
        extra[TEXT_VOCABULARY] = json.dumps(words) + "\n"
    _write(out, step, model, match, extra)
    return imported


def _text_vocabulary(format_: Format, path: Path | None) -> list[int] | None:
    if path is None:
        return None
    if "text" not in format_.modalities:
        raise TrainingError(f"the file is {format_}: it has no use for a text vocabulary")
    return read_text_vocabulary(path)


def _step(file: ReleasedFile) -> int:
    """Some files say how many steps they were trained for, others only which epoch was the last, from zero."""
    if file.step is not None:
        return file.step
    return 0 if file.epoch is None else (file.epoch + 1) * STEPS_PER_EPOCH


def _filled(match: Match, step: int) -> nn.Module:
    """The model with the weights of the file; the rest begins as the recipe's seed has it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(match.recipe.training.seed)
        model = build_model(match.recipe)
    state = model.state_dict()
    for ours, theirs in match.names.items():
        state[ours].copy_(match.tensors[theirs])
    if "steps" in state:
        state["steps"].fill_(step)
    if match.format.family == "micu":
        # Its inference functions do so each time that they are called.
        state["quantizers.0.codebook.paper_table"][0] = 0
    return model


def _account(
    file: ReleasedFile, match: Match, model: nn.Module, step: int, words: list[int] | None
) -> Imported:
    encoder = [tensor for name, tensor in file.tensors.items() if name.startswith(f"{ENCODER}/")]
    parameters = {name: parameter.numel() for name, parameter in model.named_parameters()}
    fresh = {name: numel for name, numel in parameters.items() if name not in match.names}
    used = set(match.names.values())
    unused = [name for name in match.tensors if name not in used]
    return Imported(
        file=file,
        format=match.format,
        method=match.recipe.method,
        codes=match.recipe.codebook.size,
        step=step,
        encoder=(len(encoder), sum(tensor.numel() for tensor in encoder)),
        loaded=sum(parameters.values()) - sum(fresh.values()),
        fresh=sum(fresh.values()),
        unused=dict(Counter(_part(name) for name in unused)),
        untrained=_modules(fresh),
        words=None if words is None else len(words),
    )


def _part(unused: str) -> str:
    """The part of an encoder, or the whole module, that an unused tensor of a file belongs to."""
    return (dead_part(unused) or unused.partition("/")[0]).removeprefix(f"{ENCODER}/")


def _modules(names: Iterable[str]) -> tuple[str, ...]:
    """The modules of a part and a modality that tensors belong to: `level.decoders.audio`."""
    return tuple(dict.fromkeys(".".join(name.split(".")[:3]) for name in names))


def _write(out: Path, step: int, model: nn.Module, match: Match, extra: Mapping[str, str]) -> None:
    """A checkpoint by itself, in one piece or not at all; it has no optimisers to go on with."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as run:
            folder = save_checkpoint(Path(run), step, model, match.recipe, TrainingState({}), extra)
            (folder / OPTIMIZER).unlink(missing_ok=True)
            folder.rename(out)
    except OSError:
        raise TrainingError(f"the checkpoint '{out}' cannot be written") from None
