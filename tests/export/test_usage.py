"""What a bundle says of the codes that it gives: counted on clips behind every split, as files have them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from export.usage import add_usage, state_usage
from tessera.bundle import MANIFEST, Bundle
from tessera.errors import BundleError
from tessera.tokenizer import Tokenizer
from training.data.generated import GeneratedData

QUIET = Console(quiet=True)


def test_it_counts_what_the_bundle_serves(bundle_dir: Path) -> None:
    tokenizer = Tokenizer.load(bundle_dir)
    manifest = tokenizer.manifest
    data = manifest.provenance.recipe["data"]
    assert isinstance(data, dict)
    generated = GeneratedData.of(data)
    captions = [generated.world.clip("test", generated.clips["test"] + i).caption for i in range(4)]
    codes = np.concatenate([tokenizer.encode_text(caption).codes for caption in captions])
    (counts,) = manifest.usage["text"]
    np.testing.assert_array_equal(counts, np.bincount(codes[:, 0], minlength=len(counts)))


def test_what_learnt_from_no_world_stays_as_it_is(bundle_copy: Path) -> None:
    path = bundle_copy / MANIFEST
    document = json.loads(path.read_bytes())
    del document["usage"]
    document["provenance"]["recipe"]["data"] = {}
    path.write_text(json.dumps(document))
    before = path.read_bytes()
    add_usage(bundle_copy, 1, QUIET)
    assert path.read_bytes() == before


def test_usage_of_other_codebooks_is_refused(bundle_copy: Path) -> None:
    before = Bundle.load(bundle_copy)
    state_usage(bundle_copy, {"audio": [np.ones(16, np.int64)]})
    after = Bundle.load(bundle_copy)
    assert set(after.manifest.usage) == {"audio"}
    assert after.revision != before.revision
    with pytest.raises(BundleError, match="usage of audio"):
        state_usage(bundle_copy, {"audio": [np.ones(17, np.int64)]})
