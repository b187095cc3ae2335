"""Raw clips -> feature store: in many processes, and one that was killed goes on where it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tessera.errors import TrainingError
from tessera.windows import Modality
from training.backbones.choice import Choice
from training.backbones.text_choice import TextChoice
from training.data.assembly import Assembled, assemble
from training.data.clip_pool import read_clips
from training.data.clip_reader import ClipReader, ReaderSettings
from training.data.generated import train_pieces
from training.data.manifest import ClipManifest
from training.data.shards import Shards
from training.data.store_manifest import StoreFacts
from training.data.store_writer import StoreWriter

TOKENIZER = "tokenizer.json"

_FORMAT = 1  # raise it when features change, so that nothing goes on with clips of before


@dataclass(frozen=True)
class Extraction:
    """What to make: a store of the clips of `manifest` called `name`, by `workers` processes.

    `skip_bad` leaves out clips that cannot be read; else the first ends it.
    """

    manifest: ClipManifest
    name: str
    settings: ReaderSettings
    workers: int
    skip_bad: bool = False


@dataclass(frozen=True)
class Extracted:
    """What came of it: `resumed` clips had been finished before, `left_out` says why by the id of a clip."""

    store: Assembled
    resumed: int
    left_out: Mapping[str, str]


def extract(extraction: Extraction, target: Path, console: Console) -> Extracted:
    """Make the feature store `target`.

    Finished clips are kept in `.<target>.clips` until the store is complete; a second call with the same manifest and
    settings goes on from there. Of a longer clip the first ten seconds are taken (see `assemble` for a shorter one).

    Raises:
        TrainingError: the target is there already, a backbone cannot be had, a clip cannot be read, or an unfinished
            extraction to `target` had other settings.
    """
    if target.exists():
        raise TrainingError(f"'{target}' is there already; delete it, or write elsewhere")
    manifest, settings = extraction.manifest, extraction.settings
    texts = TextChoice.parse(settings.choices["text"]) if "text" in settings.choices else None
    files = _files(settings.choices, texts)
    shards = Shards(target, _asked(extraction, files))
    if texts is not None:
        own = texts.tokenizer()
        kept = shards.text(TOKENIZER, lambda: own or _trained_tokenizer(manifest))
        # With the folder of a model from the hub, which the workers then need not ask.
        choices: dict[Modality, str] = {**settings.choices, "text": str(texts)}
        settings = replace(settings, choices=choices, tokenizer_json=kept)
    # Weights that are not what they should be are found here, by one process.
    features = ClipReader(settings).features()
    before = shards.done()
    left_out = _read_all(replace(extraction, settings=settings), shards, before, console)
    if len(left_out) == len(manifest.rows):
        raise TrainingError(f"no clip can be read; the first: {next(iter(left_out.values()))}")
    facts = StoreFacts(name=extraction.name, task=manifest.task, classes=manifest.classes, features=features)
    with StoreWriter(target, facts) as writer:
        writer.sources.update({"manifest": manifest.sha256, **files})
        if texts is not None:
            writer.add_file(TOKENIZER, settings.tokenizer_json.encode())
        store = assemble(writer, manifest, shards, left_out)
    shards.remove()
    return Extracted(store, len(before), left_out)


def _asked(extraction: Extraction, files: Mapping[str, str]) -> dict[str, object]:
    """All that decides what the features are, by what to call it."""
    return {
        "version": _FORMAT,
        "manifest": extraction.manifest.sha256,
        "choice of backbones": dict(extraction.settings.choices),
        "content of the weights": dict(files),
        "limit": asdict(extraction.settings.limits),
    }


def _files(choices: Mapping[Modality, str], texts: TextChoice | None) -> dict[str, str]:
    """The sha256 of every file of weights and words, by modality and name."""
    found = {str(m): Choice.parse(choice).files() for m, choice in choices.items() if m != "text"}
    if texts is not None:
        found["text"] = texts.files()
    return {f"{m}: {name}": digest for m, files in found.items() for name, digest in files.items()}


def _trained_tokenizer(manifest: ClipManifest) -> str:
    return train_pieces([caption for row in manifest.rows for caption in row.captions]).to_str()


def _read_all(extraction: Extraction, shards: Shards, before: set[int], console: Console) -> dict[str, str]:
    """Read what is not done; why each clip that cannot be read cannot, by its id."""
    rows = extraction.manifest.rows
    pending = [row for row in range(len(rows)) if row not in before]
    left_out: dict[str, str] = {}
    reading = read_clips(rows, pending, shards, extraction.settings, extraction.workers)
    with closing(reading), _bar(len(rows), len(before), console) as advance:
        for row, fault in reading:
            advance()
            if fault is None:
                continue
            if not extraction.skip_bad:
                raise TrainingError(f"clip '{rows[row].id}': {fault} (--skip-bad leaves out clips like this)")
            left_out[rows[row].id] = fault
    # The order in which they were found is that of chance.
    return {row.id: left_out[row.id] for row in rows if row.id in left_out}


@contextmanager
def _bar(total: int, done: int, console: Console) -> Iterator[Callable[[], None]]:
    """A bar on `console`; what it yields moves it on by a clip."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("features", total=total, completed=done)
        yield lambda: progress.advance(task)
