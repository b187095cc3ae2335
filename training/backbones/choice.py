"""How a backbone is asked for: `name[:weights][,option=value]...`, such as `vgg19:vgg19.pth,convention=caffe`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tessera.errors import TrainingError
from training.files import sha256_of_file


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
        """The sha256 of each file that it names, by its option; that of its weights as `weights`."""
        named = {**self.options, **({"weights": self.weights} if self.weights else {})}
        paths = {name: Path(value) for name, value in named.items()}
        return {name: sha256_of_file(path) for name, path in paths.items() if path.is_file()}

    def says(self, files: Mapping[str, str], usual: Collection[str] = ()) -> str:
        """What a store is to say of its features: the same wherever the `files` (see above) lie.

        The name, how the digest of the weights begins, and the options but for those that are `usual`; of one that is
        a file, its name alone. `vgg19-1a2b3c4d,convention=caffe`, `bert-1a2b3c4d,words`, `classic`.
        """
        digest = f"-{files['weights'][:8]}" if "weights" in files else ""
        chosen = {f"{name}={value}": name for name, value in sorted(self.options.items())}
        options = [name if name in files else text for text, name in chosen.items() if text not in usual]
        return ",".join([self.name + digest, *options])
