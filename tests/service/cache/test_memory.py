"""What is kept in memory: never more than fits, and what was used last stays longest."""

from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from service.cache.memory import OVERHEAD, Memory

KEYS = st.sampled_from([bytes([number]) * 32 for number in range(8)])
STEPS = st.lists(st.tuples(KEYS, st.none() | st.binary(max_size=400)), max_size=60)


def size(data: bytes) -> int:
    return OVERHEAD + 32 + len(data)


@given(capacity=st.integers(1, 3000), steps=STEPS)
def test_the_least_recently_used_goes_first_and_all_fits(
    capacity: int, steps: list[tuple[bytes, bytes | None]]
) -> None:
    memory, model = Memory(capacity), list[tuple[bytes, bytes]]()
    for key, data in steps:
        if data is None:
            known = dict(model).get(key)
            assert memory.get(key) == known
            if known is not None:
                model = [each for each in model if each[0] != key] + [(key, known)]
        else:
            memory.put(key, data)
            if size(data) <= capacity:
                model = [each for each in model if each[0] != key] + [(key, data)]
            while sum(size(each) for _, each in model) > capacity:
                del model[0]
        assert memory.bytes == sum(size(each) for _, each in model) <= capacity
        assert len(memory) == len(model)
    for key, data in model:
        assert memory.get(key) == data


def test_an_entry_takes_no_more_memory_than_is_counted() -> None:
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        memory = Memory(2**30)
        for number in range(5000):
            memory.put(number.to_bytes(32, "little"), number.to_bytes(57, "little"))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.5 * memory.bytes < after - before < memory.bytes
