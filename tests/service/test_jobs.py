"""Jobs: however their windows are cut into slices, the answers come back in order."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.jobs import Block, Job, Slice
from tessera.windows import Arrays
from tests.service.work import block, job


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def outputs_of(inputs: Arrays, *, full: bool) -> Arrays:
    """What graphs might make of features: codes, and more of it in full."""
    codes = inputs["features"][:, :, :1].astype(np.int64)
    return {"codes": codes, "margins": codes * 0.5} if full else {"codes": codes}


def cut(each: Job, index: int, counts: list[int]) -> list[Slice]:
    """The block `index` in slices of so many windows, as far as there are some; the last has the rest."""
    rest = Slice(each, index, 0, each.blocks[index].count, arrival=0)
    heads = []
    for count in counts:
        if count < rest.count:
            heads.append(rest.split(count))
    return [*heads, rest]


@given(data=st.data(), full=st.booleans())
def test_answers_are_in_order_however_a_job_is_cut_and_whoever_rides_beside_it(
    loop: asyncio.AbstractEventLoop, data: st.DataObject, full: bool
) -> None:
    counts = st.lists(st.integers(1, 4), max_size=5)
    sizes = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))
    each = job(loop, [block(2, *range(10 * n, 10 * n + size)) for n, size in enumerate(sizes)], full=full)
    slices = [part for index in range(len(sizes)) for part in cut(each, index, data.draw(counts))]
    for part in data.draw(st.permutations(slices)):
        if part.count == 1 and data.draw(st.booleans(), label="fails"):
            part.fail(ValueError(str(part.start)))
            continue
        # In a batch with others, who may want more.
        beside = data.draw(st.integers(0, 2))
        inputs = {
            "features": np.concatenate([np.full((beside, 2, 2), -1, np.float32), part.inputs["features"]])
        }
        part.answer(outputs_of(inputs, full=full or data.draw(st.booleans(), label="full beside")), beside)
    answer = each.answer(1.0)
    assert each.left == 0
    for n, (size, answered) in enumerate(zip(sizes, answer.blocks, strict=True)):
        good = [row for row in range(size) if row not in answered.failures]
        assert {row: str(error) for row, error in answered.failures.items()} == {
            row: str(row) for row in range(size) if row not in good
        }
        if good:
            assert len(answered.outputs["codes"]) == size
            assert [answered.outputs["codes"][row].tolist() for row in good] == [
                [[10 * n + row]] * 2 for row in good
            ]
            assert not full or len(answered.outputs["margins"]) == size


def test_an_answer_says_how_long_it_waited_and_ran(loop: asyncio.AbstractEventLoop) -> None:
    each = job(loop, [block(1, 7)])
    each.submitted, each.infer_sec = 10.0, 0.5
    Slice(each, 0, 0, 1, arrival=0).answer({"codes": np.array([[[7]]])}, 0)
    answer = each.answer(now=12.0)
    assert (answer.queue_sec, answer.infer_sec) == (1.5, 0.5)


def test_blocks_of_equal_shapes_and_types_share_a_key() -> None:
    assert block(3, 1).key == block(3, 2, 4).key
    half = Block("audio", "features", {"features": np.zeros((1, 3, 2), np.float16)}, 3)
    others = [block(4, 1), half, Block("video", "features", block(3, 1).inputs, 3)]
    assert len({each.key for each in (block(3, 1), *others)}) == 4


def test_a_job_is_late_only_behind_its_deadline(loop: asyncio.AbstractEventLoop) -> None:
    assert not job(loop, [block(1, 0)]).expired(1e9)
    each = job(loop, [block(1, 0)], deadline=5.0)
    assert not each.expired(5.0)
    assert each.expired(5.1)
