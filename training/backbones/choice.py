"""How a backbone is asked for: `name[:weights][,option=value]...`, such as `vgg19:vgg19.pth,convention=caffe`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tessera.errors import TrainingError


@dataclass(frozen=True)
class Choice:
    """The parts of such a text; `weights` is a path or a name, which holds no comma."""

    name: str
    weights: str | None
    options: Mapping[str, str]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Take it apart.

        Raises:
            TrainingError: it has no name, or a part that is no `option=value`.
        """
        first, *rest = text.split(",")
        name, _, weights = first.partition(":")
        options: dict[str, str] = {}
        for part in rest:
            option, equals, value = part.partition("=")
            if not (option and equals and value):
                raise TrainingError(f"backbone '{text}': '{part}' is not of the form option=value")
            if option in options:
                raise TrainingError(f"backbone '{text}': option '{option}' comes twice")
            options[option] = value
        if not name:
            raise TrainingError(f"backbone '{text}' has no name")
        return cls(name, weights or None, options)

    def __str__(self) -> str:
        weights = f":{self.weights}" if self.weights else ""
        return f"{self.name}{weights}" + "".join(f",{name}={value}" for name, value in self.options.items())

    def require_name(self, modality: str, names: Iterable[str]) -> None:
        """Refuse a name that there is no backbone of.

        Raises:
            TrainingError: its name is none of `names`.
        """
        if self.name not in names:
            known = " and ".join(f"'{name}'" for name in names)
            raise TrainingError(f"there is no backbone '{self.name}' for {modality}; there are {known}")

    def require_bare(self) -> None:
        """Refuse weights and options.

        Raises:
            TrainingError: it has weights or options.
        """
        self.require_known()
        if self.weights is not None:
            raise TrainingError(f"backbone '{self.name}' takes no weights")

    def require_known(self, *options: str) -> None:
        """Refuse other options than these.

        Raises:
            TrainingError: it has an option that is none of `options`.
        """
        if unknown := sorted(self.options.keys() - set(options)):
            known = f"it has {', '.join(options)}" if options else "it has none"
            raise TrainingError(f"backbone '{self.name}' has no option '{unknown[0]}'; {known}")

    def require_weights(self, example: str) -> str:
        """Its weights.

        Raises:
            TrainingError: it names none.
        """
        if self.weights is None:
            raise TrainingError(f"backbone '{self.name}' needs weights: {self.name}:{example}")
        return self.weights

    def one_of(self, option: str, values: Sequence[str]) -> str:
        """The value of an option; the first of `values` where it is not given.

        Raises:
            TrainingError: it is none of `values`.
        """
        value = self.options.get(option, values[0])
        if value not in values:
            raise TrainingError(f"{option}={value}: '{self.name}' takes {' or '.join(values)}")
        return value

    def number(self, option: str, default: int, most: int) -> int:
        """The value of an option in 1..`most`.

        Raises:
            TrainingError: it is no such number.
        """
        value = self.options.get(option, str(default))
        if not (value.isascii() and value.isdecimal() and 1 <= int(value) <= most):
            raise TrainingError(f"{option}={value}: '{self.name}' takes a whole number from 1 to {most}")
        return int(value)

    def files(self) -> dict[str, str]:
        """The sha256 of each file that it names, by the file's name."""
        named = (Path(value) for value in (self.weights, *self.options.values()) if value)
        return {path.name: sha256_of_file(path) for path in named if path.is_file()}


def sha256_of_file(path: Path) -> str:
    """Hex digest of a file of any size."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
