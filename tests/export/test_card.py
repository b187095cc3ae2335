"""The model card says what is true of this very bundle, in front matter that any reader of YAML understands."""

from __future__ import annotations

import pytest
import yaml

from export.card import model_card
from tessera import Bundle
from tessera.bundle import DEMO
from tessera.manifest import Manifest
from tessera.windows import Modality

EXAMPLES = {"audio": "dog.wav", "video": "dog.mp4", "text": "a dog barks"}


def manifest(**changes: object) -> Manifest:
    return Bundle.load(DEMO).manifest.model_copy(update=changes)


@pytest.mark.parametrize("licence", ["Apache-2.0", "CC-BY-NC: see LICENSE", "no", "'quoted' # \u00fcber"])
def test_the_front_matter_is_yaml(licence: str) -> None:
    _, front, _ = model_card(manifest(licence=licence)).split("---\n", 2)
    assert yaml.safe_load(front) == {
        "license": licence.lower(),
        "library_name": "tessera",
        "tags": ["discrete-tokenizer", "cross-modal", "audio", "video", "text"],
    }


@pytest.mark.parametrize("modalities", [("audio", "video", "text"), ("audio", "text"), ("video",)])
def test_there_is_an_example_of_each_modality_and_of_no_other(modalities: tuple[Modality, ...]) -> None:
    absent = {modality: None for modality in EXAMPLES if modality not in modalities}
    card = model_card(manifest(**absent))
    assert {modality for modality, example in EXAMPLES.items() if example in card} == set(modalities)
