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
from training.backbones.catalogue import says
from training.backbones.choice import Choice
from training.backbones.text_choice import TextChoice
from training.data.assembly import Assembled, assemble
from training.data.clip_pool import read_clips
from training.data.clip_reader import ClipReader, ReaderSettings
from training.data.generated import train_pieces
from training.data.manifest import ClipManifest
from training.data.shards import Shards, shards_folder
from training.data.store_manifest import StoreFacts
from training.data.store_writer import StoreWriter
from training.data.working_folder import locked

TOKENIZER = "tokenizer.json"

_FORMAT = 2  # raise it when features change, so that nothing goes on with clips of before


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

    Finished clips are kept in `.<target>.clips` until the store is complete; a second call with the same settings goes
    on from there, with all whose files and captions are named as before. A tokeniser that is trained on the captions
    stays that of the first call. Of a longer clip the first ten seconds are taken (see `assemble` for a shorter one).

    Raises:
        TrainingError: the target is there already, another process is making it, a backbone cannot be had, a clip
            cannot be read, or an unfinished extraction to `target` had other settings.
    """
    _require_absent(target)
    with locked(shards_folder(target)):
        # Who held it before may have finished in the meantime.
        _require_absent(target)
        return _extract(extraction, target, console)


def _require_absent(target: Path) -> None:
    if target.exists():
        raise TrainingError(f"'{target}' is there already; delete it, or write elsewhere")


def _extract(extraction: Extraction, target: Path, console: Console) -> Extracted:
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
    ClipReader(settings)
    before = shards.done() & {row.digest for row in manifest.rows}
    left_out = _read_all(replace(extraction, settings=settings), shards, before, console)
    if len(left_out) == len(manifest.rows):
        raise TrainingError(f"no clip can be read; the first: {next(iter(left_out.values()))}")
    features = {m: says(Choice.parse(choice), files[m]) for m, choice in settings.choices.items()}
    facts = StoreFacts(name=extraction.name, task=manifest.task, classes=manifest.classes, features=features)
    with StoreWriter(target, facts) as writer:
        writer.sources["manifest"] = manifest.sha256
        writer.sources |= {f"{m}: {name}": digest for m in files for name, digest in files[m].items()}
        if texts is not None:
            writer.add_file(TOKENIZER, settings.tokenizer_json.encode())
        store = assemble(writer, manifest, shards, left_out)
    shards.remove()
    return Extracted(store, sum(row.digest in before for row in manifest.rows), left_out)


def _asked(extraction: Extraction, files: Mapping[Modality, Mapping[str, str]]) -> dict[str, object]:
    """All that decides what the features of a row are, by what to call it."""
    return {
        "version": _FORMAT,
        "choice of backbones": dict(extraction.settings.choices),
        "content of the weights": dict(files),
        "limit": asdict(extraction.settings.limits),
    }


def _files(choices: Mapping[Modality, str], texts: TextChoice | None) -> dict[Modality, dict[str, str]]:
    """The sha256 of every file of weights and words, by modality and option."""
    found = {m: Choice.parse(choice).files() for m, choice in choices.items()}
    if texts is not None:
        found["text"] = texts.files()
    return found


def _trained_tokenizer(manifest: ClipManifest) -> str:
    return train_pieces([caption for row in manifest.rows for caption in row.captions]).to_str()


def _read_all(extraction: Extraction, shards: Shards, before: set[str], console: Console) -> dict[str, str]:
    """Read what is not done, equal rows once; why each clip that cannot be read cannot, by its id."""
    rows = extraction.manifest.rows
    distinct = {row.digest: row for row in rows}
    pending = [row for digest, row in distinct.items() if digest not in before]
    faults: dict[str, str] = {}
    reading = read_clips(pending, shards, extraction.settings, extraction.workers)
    with closing(reading), _bar(len(distinct), len(before), console) as advance:
        for row, fault in reading:
            advance()
            if fault is None:
                continue
            if not extraction.skip_bad:
                raise TrainingError(f"clip '{row.id}': {fault} (--skip-bad leaves out clips like this)")
            faults[row.digest] = fault
    return {row.id: faults[row.digest] for row in rows if row.digest in faults}


@contextmanager
def _bar(total: int, done: int, console: Console) -> Iterator[Callable[[], None]]:
    """A bar on `console`; what it yields moves it on by a clip."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("features", total=total, completed=done)
        yield lambda: progress.advance(task)
