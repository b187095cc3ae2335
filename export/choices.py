"""Which backbones go into a bundle: those asked for on the command line, and what the checkpoint has by itself."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tessera.errors import TrainingError
from tessera.text import TOKENIZER
from tessera.windows import MODALITIES, Modality
from training.backbones.catalogue import CLASSIC, says
from training.backbones.choice import Choice
from training.backbones.text_choice import TextChoice
from training.config import Recipe
from training.data.sources import trained_on
from training.released.importer import TEXT_VOCABULARY

_EXAMPLES: Mapping[Modality, str] = {
    "audio": "audio=vggish:vggish-10086976.pth",
    "video": "video=vgg19:vgg19-dcbb9e9d.pth",
    "text": "text=bert:bert-base-uncased/",
}

# What `says` writes of weights: a store of released features says something else, in words.
_STATED = re.compile(rf"{CLASSIC}|({CLASSIC}|vggish|vgg19|bert)-[0-9a-f]{{8}}(,.*)?")


def parse_choices(options: Sequence[str], words: Path | None = None) -> dict[Modality, Choice]:
    """The values of `--backbone`, such as `audio=vggish:vggish.pth,relu=no`; `words` is the list of words of the BERT.

    Raises:
        TrainingError: one has no modality or one that another has, or is no choice; or there is no BERT for the words,
            or one that has a list already.
    """
    choices: dict[Modality, Choice] = {}
    for option in options:
        name, equals, value = option.partition("=")
        modality = next((m for m in MODALITIES if m == name), None)
        if modality is None or not equals:
            raise TrainingError(f"--backbone {option}: expected a modality first: {_EXAMPLES['audio']}")
        if modality in choices:
            raise TrainingError(f"--backbone {option}: there is one for {modality} already")
        choices[modality] = Choice.parse(value)
    if words is not None:
        choices["text"] = _with_words(choices.get("text"), words)
    return choices


def long_forms(vggish: str | None, vgg19: str | None, bert: str | None) -> list[str]:
    """What `--vggish`, `--vgg19` and `--bert` are short for: each is the part behind the name."""
    short = {"audio=vggish": vggish, "video=vgg19": vgg19, "text=bert": bert}
    return [f"{name}:{value}" for name, value in short.items() if value is not None]


def _with_words(choice: Choice | None, words: Path) -> Choice:
    if choice is None or choice.name != "bert":
        raise TrainingError("--text-vocabulary lists words of a BERT: give --bert too")
    if "words" in choice.options:
        raise TrainingError(f"--text-vocabulary {words}: the BERT has a list of words already")
    return replace(choice, options={**choice.options, "words": str(words)})


def checkpoint_choices(
    checkpoint: Path, recipe: Recipe, asked: Mapping[Modality, Choice]
) -> dict[Modality, Choice]:
    """The backbone of each modality of a checkpoint's model: the one asked for, or the one that it has by itself.

    A model of the generated world has the classic ones and the tokeniser beside its weights. Of a model that was
    trained on `classic` features of a store the same is true; any other backbone has to be asked for, and has to be the
    one that the checkpoint says its features are of. A list of words beside the weights belongs to the BERT.

    Raises:
        TrainingError: a backbone is missing, is of another modality than the model's, or is not the one that the
            features were made with; or no backbone makes such features.
    """
    if "spiked" in recipe.data:
        raise TrainingError(
            "the model is of spiked events, which are drawn as features: it has no backbones, and cannot be served "
            "from media"
        )
    if foreign := asked.keys() - set(recipe.modalities):
        raise TrainingError(
            f"the model reads {' and '.join(recipe.modalities)}: it has no use for a backbone of {min(foreign)}"
        )
    stated = _stated(checkpoint, recipe)
    choices: dict[Modality, Choice] = {}
    for modality in recipe.modalities:
        choice = asked.get(modality) or _own(modality, stated.get(modality))
        if modality == "text":
            choice = _with_own_files(checkpoint, choice)
        _require_stated(modality, choice, stated.get(modality))
        choices[modality] = choice
    return choices


def _stated(checkpoint: Path, recipe: Recipe) -> Mapping[str, str]:
    """Whose features the model was trained on, as far as that is known."""
    return dict.fromkeys(MODALITIES, CLASSIC) if "world" in recipe.data else trained_on(checkpoint)


def _own(modality: Modality, stated: str | None) -> Choice:
    if stated is None or stated.partition("-")[0] != CLASSIC:
        said = f", whose features are '{stated}'" if stated else ""
        example = _EXAMPLES[modality]
        name, _, weights = example.partition("=")[2].partition(":")
        raise TrainingError(
            f"the model needs its backbone for {modality}{said}: give --backbone {example}, "
            f"which `tessera export` also takes as --{name} {weights}"
        )
    return Choice(CLASSIC, None, {})


def _with_own_files(checkpoint: Path, choice: Choice) -> Choice:
    """With the tokeniser beside the weights, or the list of words, where the choice names none."""
    words, tokenizer = checkpoint / TEXT_VOCABULARY, checkpoint / TOKENIZER
    if choice.name == "bert" and "words" not in choice.options and words.is_file():
        return _with_words(choice, words)
    if choice.name == CLASSIC and choice.weights is None:
        if not tokenizer.is_file():
            raise TrainingError(f"the checkpoint has no {TOKENIZER} beside its weights")
        return replace(choice, weights=str(tokenizer))
    return choice


def _require_stated(modality: Modality, choice: Choice, stated: str | None) -> None:
    if stated is None or not _STATED.fullmatch(stated):
        return
    files = TextChoice.parse(str(choice)).files() if modality == "text" else choice.files()
    # The tokeniser of the classic words is named where it was given, and else was made of the captions.
    found = CLASSIC if choice.name == CLASSIC else says(choice, files)
    if found != (CLASSIC if stated.startswith(CLASSIC) else stated):
        raise TrainingError(
            f"the model learnt from {modality} features of '{stated}'; the backbone that is given makes '{found}'"
        )
