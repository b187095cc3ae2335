"""The breaker: it opens after failures in a row, and closes when an answer came."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from service.cache.breaker import Breaker


@given(st.integers(1, 5), st.lists(st.booleans(), max_size=30))
def test_failures_in_a_row_open_it(most: int, answers: list[bool]) -> None:
    breaker, row = Breaker(most), 0
    for came in answers:
        if not breaker.closed:
            breaker.try_again()
            assert breaker.state == "half_open"
        if came:
            breaker.succeeded()
            row = 0
        else:
            breaker.failed()
            row += 1
        assert breaker.state == ("open" if row >= most else "closed")
