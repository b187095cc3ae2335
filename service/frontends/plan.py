"""What the owner tells a front end before it starts: the settings, and the models with their devices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from pydantic import BaseModel

from service.bundles import LoadedBundle
from service.frontends.board import BoardShape
from service.serving import places_of
from service.settings import Settings


class PlannedModel(BaseModel):
    """A model that the owner runs; `device` is a number."""

    name: str
    folder: str
    revision: str
    device: int
    providers: list[str]


class Plan(BaseModel):
    """Plain data, as JSON; `places` are the names of the devices."""

    settings: dict[str, Any]
    models: list[PlannedModel]
    places: list[str]

    @classmethod
    def of(cls, settings: Settings, bundles: Sequence[LoadedBundle]) -> Self:
        """That of the bundles which the owner loaded."""
        places = places_of(bundles)
        models = [
            PlannedModel(
                name=bundle.name,
                folder=str(bundle.tokenizer.bundle.folder),
                revision=bundle.tokenizer.bundle.revision,
                device=places.index(bundle.tokenizer.device),
                providers=bundle.tokenizer.providers,
            )
            for bundle in bundles
        ]
        # Secrets are not dumped; a front end finds them in its environment, as its owner did.
        plain = settings.model_dump(mode="json", exclude={"redis_url"})
        return cls(settings=plain, models=models, places=list(map(str, places)))

    @property
    def devices(self) -> int:
        """How many there are."""
        return len(self.places)

    def shape(self, settings: Settings) -> BoardShape:
        """That of the board."""
        return BoardShape(len(self.models), self.devices, settings.frontends)
