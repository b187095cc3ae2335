"""Rates: no more than a minute's worth ahead, whatever the order and whoever asks; each key for itself."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import ApiError
from service.frontends.board import Board, BoardShape
from service.security.keys import MAX_KEYS, Key
from service.security.rates import Rates
from service.settings import Settings
from tessera.tokenizer import Tokenizer
from tests.service.running import RunningApp, running_app
from tests.service.security.secrets import bearer, line
from tests.service.security.test_keys import FIRST, SECOND

SETTINGS = Settings.load(key_requests_per_minute=6, key_segments_per_minute=60)
WAITS = st.lists(st.tuples(st.floats(0, 30), st.integers(0, 50)), max_size=60)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def key(number: int = 1, **fields: float) -> Key:
    return Key(
        name=f"k{number}", sha256=f"{number:015x}".ljust(64, "0"), scopes=frozenset({"infer"}), **fields
    )


def taken(rates: Rates, asker: Key) -> bool:
    try:
        rates.take(asker)
    except ApiError:
        return False
    return True


@given(WAITS)
def test_no_stretch_of_time_has_more_requests_than_it_earns_and_a_minute_more(
    waits: list[tuple[float, int]],
) -> None:
    clock = Clock()
    rates = Rates.own(SETTINGS, clock)
    times = []
    for wait, _ in waits:
        clock.now += wait
        if taken(rates, key()):
            times.append(clock.now)
    for first, start in enumerate(times):
        for last, end in enumerate(times[first:], first):
            assert last - first + 1 <= 6 * (end - start + 60) / 60 + 1e-6


@given(WAITS)
def test_segments_are_overdrawn_once_and_earned_back(waits: list[tuple[float, int]]) -> None:
    clock = Clock()
    rates = Rates.own(SETTINGS, clock)
    asker = key(requests_per_minute=1e9)
    left, at = 60.0, clock.now
    for wait, segments in waits:
        clock.now += wait
        left, at = min(60.0, left + clock.now - at), clock.now
        if abs(left) < 1e-6:
            continue  # on the edge either is right
        assert taken(rates, asker) == (left > 0)
        if left > 0:
            rates.spend(asker, segments)
            left -= segments


def test_who_waits_as_long_as_was_said_is_let_in_and_not_sooner() -> None:
    clock = Clock()
    rates = Rates.own(SETTINGS, clock)
    for _ in range(6):
        rates.take(key())
    with pytest.raises(ApiError) as refused:
        rates.take(key())
    assert refused.value.retry_after == 10
    assert (refused.value.limit, refused.value.actual) == (6, 6)
    assert refused.value.setting == "TESSERA_KEY_REQUESTS_PER_MINUTE"
    clock.now += 9.9
    assert not taken(rates, key())
    clock.now += 0.1
    assert taken(rates, key())


def test_keys_do_not_share_and_may_have_a_rate_of_their_own() -> None:
    rates = Rates.own(SETTINGS, Clock())
    assert [taken(rates, key(1)) for _ in range(7)] == [True] * 6 + [False]
    assert [taken(rates, key(2, requests_per_minute=2)) for _ in range(3)] == [True, True, False]
    assert taken(rates, key(3))


def test_places_are_found_again_however_many_keys_come_and_go() -> None:
    clock = Clock()
    rates = Rates.own(SETTINGS, clock)
    for generation in range(5):
        keys = [key(1 + generation * MAX_KEYS + number) for number in range(MAX_KEYS)]
        for each in keys:
            assert [taken(rates, each) for _ in range(7)] == [True] * 6 + [False]
        clock.now += 61


def test_front_ends_count_together(tmp_path: Path) -> None:
    shape = BoardShape(1, 1, 2)
    board = Board.made(shape, SETTINGS)
    others = [Board(os.dup(board.descriptor), shape, SETTINGS, own).key_rates for own in (0, 1)]
    assert [taken(others[n % 2], key()) for n in range(8)] == [True] * 6 + [False] * 2


def asked(bundle_dir: Path, lines: str, ask: object) -> list[httpx.Response]:
    async def scenario() -> list[httpx.Response]:
        async with running_app(Tokenizer.load(bundle_dir), api_keys=lines) as running:
            while not running.engine.ready:
                await asyncio.sleep(0.002)
            return [await each for each in ask(running)]  # type: ignore[operator]

    return asyncio.run(scenario())


def test_a_key_that_asks_too_often_is_told_when_to_come_back(bundle_dir: Path) -> None:
    lines = line("a", FIRST, requests_per_minute=2) + ";" + line("b", SECOND)

    def ask(running: RunningApp) -> list[object]:
        mine = [running.client.get("/version", headers=bearer(FIRST)) for _ in range(3)]
        return [*mine, running.client.get("/version", headers=bearer(SECOND))]

    answers = asked(bundle_dir, lines, ask)
    assert [answer.status_code for answer in answers] == [200, 200, 429, 200]
    assert 1 <= int(answers[2].headers["retry-after"]) <= 30
    error = answers[2].json()["error"]
    assert (error["code"], error["type"], error["retryable"]) == ("rate_limited", "rate_limit_error", True)


def test_work_is_counted_when_it_is_known(bundle_dir: Path) -> None:
    def ask(running: RunningApp) -> list[object]:
        text = {
            "content": "a dog barks in the rain",
            "headers": bearer(FIRST) | {"content-type": "text/plain"},
        }
        return [running.client.post("/tokenize", **text) for _ in range(3)]

    answers = asked(bundle_dir, line("a", FIRST, segments_per_minute=7), ask)
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert "7 segments a minute" in answers[2].json()["error"]["message"]
