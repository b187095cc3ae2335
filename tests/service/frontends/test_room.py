"""Room that processes share: never more than there is, and what a dead process held is given back."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from service.costs import Costs
from service.frontends.board import Board, BoardShape
from service.frontends.room import SharedRoom
from service.settings import Settings

SHAPE = BoardShape(models=2, devices=1, front_ends=4)
CAPACITY = 1000
SETTINGS = Settings(max_queue_bytes=CAPACITY)

_TAKING = """
import random, sys
from service.frontends.board import Board
from tests.service.frontends.test_room import SETTINGS, SHAPE, room_of

room = room_of(Board(int(sys.argv[1]), SHAPE, SETTINGS, int(sys.argv[2])))
chance, held, refused = random.Random(sys.argv[2]), [], 0
for _ in range(int(sys.argv[3])):
    if held and chance.random() < 0.45:
        room.give_back(held.pop())
        continue
    amount = chance.randrange(1, 300)
    if room.take(amount):
        held.append(amount)
    else:
        refused += 1
    assert room.used <= room.capacity
print(sum(held), refused, flush=True)
sys.stdin.read()
"""


def room_of(board: Board) -> SharedRoom:
    """The one for decoded inputs."""
    room = board.rooms.data
    assert isinstance(room, SharedRoom)
    return room


@contextmanager
def taking(board: Board, own: int, steps: int) -> Iterator[subprocess.Popen[str]]:
    """A process that takes and gives back, says what it holds in the end, and stays."""
    process = subprocess.Popen(
        [sys.executable, "-c", _TAKING, *map(str, (board.descriptor, own, steps))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=(board.descriptor,),
    )
    with process:
        yield process
        process.kill()


def test_processes_together_never_take_more_than_there_is() -> None:
    board = Board.made(SHAPE, SETTINGS)
    room = room_of(board)
    with taking(board, 0, 3000) as a, taking(board, 1, 3000) as b, taking(board, 3, 3000) as c:
        said = []
        for process in (a, b, c):
            assert process.stdout is not None
            said.append([int(word) for word in process.stdout.readline().split()])
        assert room.used == sum(held for held, _ in said) <= CAPACITY
        assert all(refused for _, refused in said), "the room was never full, so nothing was tried"


def test_what_a_dead_process_held_is_given_back() -> None:
    board = Board.made(SHAPE, SETTINGS)
    room = room_of(board)
    with taking(board, 1, 10**9) as endless, taking(board, 2, 500) as other:
        assert other.stdout is not None
        held = int(other.stdout.readline().split()[0])
        while room.used == held:
            pass
        endless.kill()
        endless.wait()
        board.clear(1)
        assert room.used == held
        # Whatever it did when it died, the lock is free.
        assert room_of(Board(board.descriptor, SHAPE, SETTINGS, 0)).take(CAPACITY - held)
        assert not room_of(Board(board.descriptor, SHAPE, SETTINGS, 3)).take(1)


def test_all_that_is_shared_has_a_place_of_its_own() -> None:
    owner = Board.made(SHAPE, SETTINGS)
    one = Board(owner.descriptor, SHAPE, SETTINGS, 0)
    other = Board(owner.descriptor, SHAPE, SETTINGS, 1)
    unknown = Costs().micros("audio", "media", 10)
    assert one.costs(0).micros("audio", "media", 10) == unknown
    owner.costs(1).observe("text", "features", 10, 0.5)
    owner.show(0, warm=True, alive=False)
    owner.beat()
    assert one.bodies.take(3)
    assert other.bodies.take(4)
    assert one.rooms.micros[0].take(5)
    assert (owner.bodies.used, owner.rooms.data.used, owner.rooms.micros[0].used) == (7, 0, 5)
    assert (other.warm(0), other.alive(0)) == (True, False)
    assert other.beat_age < 3600
    assert other.costs(1).micros("text", "features", 10) == 500_000
    assert other.costs(0).micros("text", "features", 10) == unknown
    assert other.costs(1).micros("video", "media", 10) == unknown
    with pytest.raises(AssertionError):
        owner.bodies.take(1)
