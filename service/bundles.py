"""Which bundles are served, under which names and where: `SOURCE[,name=N][,device=D][,threads=T][,weight=W]`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from service.errors import StartError
from service.settings import Settings
from tessera.tokenizer import Tokenizer

SEPARATOR = ";"
"""Between bundles, where one setting has several."""

_OPTION = re.compile(r"(name|device|threads|weight)=(.*)")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class BundleChoice:
    """One bundle as the settings name it; what is None is as the bundle or the other settings say."""

    source: str | None
    name: str | None = None
    device: str | None = None
    threads: int | None = None
    weight: float = 1.0

    @classmethod
    def parse(cls, text: str) -> BundleChoice:
        """Read one choice; only options at its end count, so a folder may have commas in its name.

        Raises:
            StartError: an option is given twice, or its value cannot be taken.
        """
        source, options = text, dict[str, str]()
        while option := _OPTION.fullmatch(source.rpartition(",")[2]):
            source = source.rpartition(",")[0]
            if option[1] in options:
                raise StartError(f"bundle '{text}': {option[1]} is given twice")
            options[option[1]] = option[2]
        name = options.get("name")
        if name is not None and not _NAME.fullmatch(name):
            raise StartError(f"bundle '{text}': a name has letters, digits, '.', '_' and '-', at most 64")
        return cls(
            source or None,
            name,
            options.get("device"),
            _threads(text, options.get("threads")),
            _weight(text, options.get("weight", "1")),
        )


def _threads(text: str, value: str | None) -> int | None:
    if value is None:
        return None
    if not value.isdecimal() or not 1 <= int(value) <= 1024:
        raise StartError(f"bundle '{text}': threads is a whole number from 1 to 1024")
    return int(value)


def _weight(text: str, value: str) -> float:
    try:
        weight = float(value)
    except ValueError:
        weight = 0.0
    if not 0.001 <= weight <= 1000:
        raise StartError(f"bundle '{text}': weight is a number from 0.001 to 1000")
    return weight


@dataclass(frozen=True, slots=True)
class LoadedBundle:
    """A bundle whose graphs are on its device."""

    name: str
    tokenizer: Tokenizer
    weight: float = 1.0


def bundle_choices(settings: Settings) -> list[BundleChoice]:
    """The bundles of the settings; without any, the demo.

    Raises:
        StartError: a choice cannot be read.
    """
    texts = (settings.bundle or "").split(SEPARATOR)
    return [BundleChoice.parse(text.strip()) for text in texts if text.strip()] or [BundleChoice(None)]


def load_bundles(settings: Settings) -> list[LoadedBundle]:
    """Load every bundle of the settings; the first is the default model.

    Raises:
        BundleError: there is none, or it is damaged.
        RuntimeUnavailable: the device is not there.
        StartError: a choice cannot be read, or two models have one name.
    """
    loaded = [_loaded(choice, settings) for choice in bundle_choices(settings)]
    _require_different_names(loaded)
    return loaded


def _loaded(choice: BundleChoice, settings: Settings) -> LoadedBundle:
    tokenizer = Tokenizer.load(
        choice.source,
        device=choice.device or settings.device,
        threads=choice.threads or settings.threads,
        limits=settings.limits,
        gpu=settings.gpu,
    )
    return LoadedBundle(choice.name or tokenizer.manifest.name, tokenizer, choice.weight)


def _require_different_names(bundles: Sequence[LoadedBundle]) -> None:
    name, count = Counter(bundle.name for bundle in bundles).most_common(1)[0]
    if count > 1:
        raise StartError(
            f"{count} bundles are named '{name}': give others a name, as in --bundle FOLDER,name=other"
        )
