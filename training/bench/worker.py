"""One side of the bench in a process of its own: `python -m training.bench.worker`.

The first line of its input is a `Job`; each further line asks for a step. It answers with `Ready`, then with a `Step`
for each.
"""

from __future__ import annotations

import itertools
import resource
import sys
import time
from collections.abc import Callable

import torch
from lightning_fabric import Fabric
from pydantic import BaseModel
from rich.console import Console
from torch import Tensor

from tessera.errors import TesseraError
from training.bench.jobs import Job, Ready, Step
from training.bench.transcription.programs import PROGRAMS
from training.config import Recipe
from training.devices import open_fabric
from training.loop import Loop
from training.models.catalogue import build_model

# Published clips have ten seconds, and texts as many slots.
SEGMENTS = 10


def main() -> None:
    """Serve stdin until it ends."""
    job = Job.model_validate_json(sys.stdin.readline())
    try:
        fabric = open_fabric(job.recipe.training, job.device)
    except TesseraError as error:
        print(f"tessera: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    torch.manual_seed(job.recipe.training.seed)
    take_step = _transcription(job) if job.program == "transcription" else _tessera(job, fabric)
    name = torch.cuda.get_device_name() if job.device == "cuda" else torch.backends.cpu.get_cpu_capability()
    _answer(Ready(threads=torch.get_num_threads(), torch=torch.__version__, device_name=name))
    for _ in sys.stdin:
        _finish(job)
        begin = time.perf_counter()
        loss = take_step()
        _finish(job)
        seconds = time.perf_counter() - begin
        _answer(Step(seconds=seconds, peak_memory_bytes=_peak(job), loss=loss))


def random_features(recipe: Recipe, device: str) -> dict[str, Tensor]:
    """A batch of the shapes that `recipe` trains on; pictures are not negative, as published."""
    model, clips = recipe.model, recipe.training.batch_size
    grid = model.video_grid
    return {
        "audio": torch.randn(clips, SEGMENTS, model.audio_dim, device=device),
        "video": torch.rand(clips, SEGMENTS, grid, grid, model.video_dim, device=device),
        "text": torch.randn(clips, SEGMENTS, model.text_dim, device=device),
    }


def _transcription(job: Job) -> Callable[[], float]:
    program = PROGRAMS[job.recipe.method](job.recipe)
    program.prepare(job.device)
    batch = random_features(job.recipe, job.device)
    return lambda: program.step(batch)["loss"]


def _tessera(job: Job, fabric: Fabric) -> Callable[[], float]:
    recipe = job.recipe
    loop = Loop(build_model(recipe), recipe, fabric, Console(stderr=True))
    batch = random_features(recipe, job.device)
    number = itertools.count()
    return lambda: loop.step(next(number), batch, with_metrics=False)["loss"]


def _finish(job: Job) -> None:
    if job.device == "cuda":
        torch.cuda.synchronize()


def _peak(job: Job) -> int:
    if job.device == "cuda":
        return torch.cuda.max_memory_allocated()
    # Linux counts in kB, macOS in bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _answer(answer: BaseModel) -> None:
    print(answer.model_dump_json(), flush=True)


if __name__ == "__main__":
    main()
