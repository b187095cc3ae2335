"""What a side of the bench is asked to do, and what it answers: lines of JSON between two processes."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from training.config import Recipe

Device = Literal["cpu", "cuda"]


class Job(BaseModel):
    """Training steps of `recipe` on random features, by the transcription or by Tessera."""

    model_config = ConfigDict(frozen=True)

    program: Literal["transcription", "tessera"]
    recipe: Recipe
    device: Device = "cpu"

    @property
    def precision(self) -> str:
        """What it computes in; the transcription always in float64."""
        return "float64" if self.program == "transcription" else self.recipe.training.precision

    @property
    def title(self) -> str:
        """What tells it from the other sides of its recipe."""
        return f"{self.program}, {self.precision}, {self.recipe.model.video_branch}"


class Ready(BaseModel):
    """The model is built. `device_name`: of the GPU, or the vector instructions that a processor has."""

    threads: int
    torch: str
    device_name: str


class Step(BaseModel):
    """One step was taken. The peak is that of the process, or on its GPU, since it began."""

    seconds: float
    peak_memory_bytes: int
    loss: float
