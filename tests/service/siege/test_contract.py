"""A few requests that Schemathesis draws; thousands are `python -m tests.service.siege.contract`."""

from __future__ import annotations

from typing import Any

import pytest

from tests.service.running import RunningServer
from tests.service.siege.contract import operations, run

OPERATIONS = operations()


@pytest.mark.parametrize("operation", OPERATIONS, ids=[each.label for each in OPERATIONS])
def test_answers_are_as_the_document_says(server: RunningServer, operation: Any) -> None:
    assert run(server.url, operation, 60 if operation.body else 5, seed=1).total() > 0
