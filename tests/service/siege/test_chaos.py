"""A short siege; the long one is `python -m tests.service.siege.chaos`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.service.siege.chaos import Siege


@pytest.mark.parametrize(("frontends", "requests"), [(1, 240), (2, 160)])
def test_everything_goes_wrong_and_all_are_answered(bundle_dir: Path, frontends: int, requests: int) -> None:
    hours = {hour.name: hour for hour in Siege(bundle_dir, requests, 0, frontends).hours()}
    for name, hour in hours.items():
        print(name, hour.facts, dict(hour.tally.totals()))
    assert not [violation for hour in hours.values() for violation in hour.tally.violations]
    assert hours["mixed"].tally.totals()["right"] > 0
    assert hours["loris"].tally.totals()["right"] == hours["loris"].tally.requests
    assert hours["decoders"].facts["decoders_killed"] > 0
    assert set(hours["device"].tally.totals()) == {"device_lost"}
