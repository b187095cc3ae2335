"""Which model a recipe is for."""

from __future__ import annotations

from typing import Any

from training.config import Method, Recipe
from training.models.canonical import Canonical
from training.models.cmcm import CMCM
from training.models.dcid import DCID
from training.models.fcid import FCID
from training.models.fcid_fine import FCIDFine
from training.models.hdcid import HDCID
from training.models.srcid import SRCID
from training.models.task import TaskModule
from training.models.vq import VQ

_METHODS: dict[Method, type[TaskModule[Any]]] = {
    "dcid": DCID,
    "hdcid": HDCID,
    "srcid": SRCID,
    "fcid": FCID,
    "vq": VQ,
    "cmcm": CMCM,
    "canonical": Canonical,
}


def build_model(recipe: Recipe) -> TaskModule[Any]:
    """The model of `recipe` with fresh weights, from torch's generator."""
    if recipe.half == "fine":
        return FCIDFine(recipe)
    return _METHODS[recipe.method](recipe)
