"""AVE to AVVP: fitted on clips of one data set, tested on those of another, with the 12 events that both know."""

from __future__ import annotations

from pathlib import Path

from tessera.errors import TrainingError
from tessera.windows import Modality
from training.data.store import FeatureStore
from training.evaluation.tasks.heads import EventTask, Parts
from training.evaluation.tasks.parts import both, names_of, open_store, whole, without
from training.evaluation.tasks.task import Column, Settings, Task

EPOCHS: dict[Column, int] = {"dcid": 50, "toc": 100, "fcid": 50}
_NOTE = "Fitted on AVE, tested on AVVP."
_LEFT_OUT = (
    "Clips of both are left out by their names; in the released archive of AVE clips have numbers instead."
)


def open_ave_avvp(data: Path | None, settings: Settings) -> Task:
    """`held_out` leaves out tested clips that have the name of one that is fitted on.

    Raises:
        TrainingError: the stores `ave-avvp`, `ave-avvp-video` and `ave-avvp-audio` are not in `data`, or lack
            something, or do not have the same classes; or every tested clip has the name of a fitted one.
    """
    fitted = open_store(data, "ave-avvp")
    tested: dict[Modality, FeatureStore] = {
        "audio": open_store(data, "ave-avvp-audio"),
        "video": open_store(data, "ave-avvp-video"),
    }
    for store in tested.values():
        if store.classes != fitted.classes:
            raise TrainingError(f"'{store.folder}' has other classes than '{fitted.folder}'")
    fit = whole(fitted, settings)
    test: Parts = {m: whole(store, settings) for m, store in tested.items()}
    if settings.protocol == "held_out":
        known = names_of(fit)
        test = {m: without(part, known) for m, part in test.items()}
    note = f"{_NOTE} {_LEFT_OUT}" if settings.protocol == "held_out" else _NOTE
    return EventTask("ave-avvp", both(fit), test, len(fitted.classes), settings, EPOCHS, note)
