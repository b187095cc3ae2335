"""The ledger: whole lines of finished jobs, only ever added, whatever happens to who adds them."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tessera.errors import TrainingError
from training.results.job import LINEAR, ControlJob
from training.results.ledger import Ledger

QUIET = Console(quiet=True)
JOBS = [ControlJob("even", "row", seed, LINEAR, 2, 8, {"spiked": {}}) for seed in range(4)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "docs" / "results.jsonl"


@contextmanager
def full_after(size: int) -> Iterator[None]:
    """While it is entered, no file grows beyond `size`, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_is_added_is_a_line_and_is_read_again(path: Path) -> None:
    ledger = Ledger(path, QUIET)
    assert not path.exists()
    ledger.add(JOBS[0], {"seconds": 0.1 + 0.2, "all": {}})
    first = path.read_bytes()
    ledger.add(JOBS[1], {"seconds": None})
    assert path.read_bytes().startswith(first)
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {
            "key": JOBS[0].key,
            "setting": "even",
            "row": "row",
            "seed": 0,
            "scores": {"seconds": 0.1 + 0.2, "all": {}},
        },
        {"key": JOBS[1].key, "setting": "even", "row": "row", "seed": 1, "scores": {"seconds": None}},
    ]
    for one in (ledger, Ledger(path, QUIET)):
        assert [one.scores(job) for job in JOBS[:3]] == [
            {"seconds": 0.1 + 0.2, "all": {}},
            {"seconds": None},
            None,
        ]


def test_the_first_of_two_lines_of_one_job_counts(path: Path) -> None:
    ledger = Ledger(path, QUIET)
    ledger.add(JOBS[0], {"seconds": 1})
    ledger.add(JOBS[0], {"seconds": 2})
    assert path.read_text().count("\n") == 1
    path.write_text(path.read_text() + path.read_text().replace('"seconds": 1', '"seconds": 2'))
    assert Ledger(path, QUIET).scores(JOBS[0]) == {"seconds": 1}


@given(st.data())
def test_a_line_cut_off_anywhere_is_dropped_and_told_of(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path, said = tmp_path_factory.mktemp("ledger") / "x.jsonl", StringIO()
    for job in JOBS[:2]:
        Ledger(path, QUIET).add(job, {"seconds": 1.5, "all": {"a": [1, 2]}})
    whole = path.read_bytes()
    start = whole.index(b"\n") + 1
    path.write_bytes(whole[: data.draw(st.integers(start + 1, len(whole) - 2))])
    ledger = Ledger(path, Console(file=said, width=1000))
    assert "ended in half a line, which is removed" in said.getvalue()
    assert path.read_bytes() == whole[:start]
    assert ledger.scores(JOBS[0])
    assert ledger.scores(JOBS[1]) is None
    ledger.add(JOBS[1], {"seconds": 1.5, "all": {"a": [1, 2]}})
    assert path.read_bytes() == whole


def test_a_whole_last_line_needs_no_end(path: Path) -> None:
    Ledger(path, QUIET).add(JOBS[0], {"seconds": 1})
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    Ledger(path, QUIET).add(JOBS[1], {"seconds": 2})
    again = Ledger(path, QUIET)
    assert [again.scores(job) for job in JOBS[:2]] == [{"seconds": 1}, {"seconds": 2}]


@pytest.mark.parametrize(
    "line", ["<<<<<<< HEAD", "", "[]", "1", "{}", '{"key": "a"}', '{"key": 1, "scores": {}}', "\xff"]
)
def test_a_line_of_something_else_is_named_and_the_file_left_alone(line: str, path: Path) -> None:
    Ledger(path, QUIET).add(JOBS[0], {"seconds": 1})
    path.write_bytes(path.read_bytes() + line.encode("latin-1") + b"\nhalf")
    before = path.read_bytes()
    with pytest.raises(TrainingError, match=r"line 2 of '.*results.jsonl' is of no finished job"):
        Ledger(path, QUIET)
    assert path.read_bytes() == before


def test_a_full_disk_ends_in_a_sentence_and_costs_one_line(path: Path) -> None:
    ledger = Ledger(path, QUIET)
    ledger.add(JOBS[0], {"seconds": 1})
    first = path.read_bytes()
    for room in (10, 0):
        with full_after(len(first) + room), pytest.raises(TrainingError, match="is the disk full"):
            ledger.add(JOBS[1], {"seconds": 2})
        assert len(path.read_bytes()) == len(first) + 10
        assert ledger.scores(JOBS[1]) is None
    again = Ledger(path, QUIET)
    assert path.read_bytes() == first
    again.add(JOBS[1], {"seconds": 2})
    assert Ledger(path, QUIET).scores(JOBS[1]) == {"seconds": 2}


def test_lines_go_into_the_file_that_is_there_now(path: Path) -> None:
    ledger = Ledger(path, QUIET)
    ledger.add(JOBS[0], {"seconds": 1})
    # As git does when another branch is checked out.
    other = path.with_name("other")
    other.write_bytes(b"")
    other.replace(path)
    ledger.add(JOBS[1], {"seconds": 2})
    assert Ledger(path, QUIET).scores(JOBS[1]) == {"seconds": 2}


def test_a_folder_is_no_ledger(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="is a folder"):
        Ledger(tmp_path, QUIET)
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="cannot be written"):
        Ledger(tmp_path / "file" / "x.jsonl", QUIET)
