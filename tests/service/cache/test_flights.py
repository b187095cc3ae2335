"""Flights: everybody is told once, and a flight that is left is led by the next."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from service.cache.flights import Flight, Flights

FLIGHT = Flight(b"key", "interactive")


@given(st.lists(st.sampled_from(["join", "fail", "land", "leave"]), max_size=40))
def test_there_is_always_one_who_leads(steps: list[str]) -> None:
    async def scenario() -> None:
        flights, led = Flights[str](), False
        following: list[asyncio.Future[str | None]] = []
        for step in steps:
            if step == "join":
                future = flights.join(FLIGHT)
                assert (future is None) == (not led)
                led = True
                if future is not None:
                    following.append(future)
            elif step == "leave" and following:
                following.pop(len(following) // 2).cancel()
            elif step == "land" and led:
                flights.land(FLIGHT, "landed")
                assert [future.result() for future in following] == ["landed"] * len(following)
                led, following = False, []
            elif step == "fail" and led:
                assert flights.hand_over(FLIGHT) == bool(following)
                led = bool(following)
                if following:
                    assert following.pop(0).result() is None
                assert not any(future.done() for future in following)
            assert flights.followed(FLIGHT) == bool(following)

    asyncio.run(scenario())


def test_lanes_fly_apart() -> None:
    flights = Flights[str]()
    assert flights.join(FLIGHT) is None
    assert flights.join(Flight(FLIGHT.key, "bulk")) is None
