"""A hundred damaged files; thousands are `python -m tests.service.siege.mutations`."""

from __future__ import annotations

from pathlib import Path

from tests.service.siege.mutations import run


def test_damaged_media_is_answered_and_harms_nothing(bundle_dir: Path) -> None:
    found = run(bundle_dir, 150, seed=1)
    print(found.document())
    assert not found.tally.violations
    assert found.tally.requests == 150
    assert found.tally.totals()["right"] > 0
    assert not found.slow
