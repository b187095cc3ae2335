"""The history of a run: a line a logged step, resumed without a gap or an overlap, whatever ended the last run."""

from __future__ import annotations

import io
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from tests.training.small import QUIET
from training.history import METRICS, SECONDS, History, Series, read_history


def pairs(series: Series) -> list[tuple[int, float]]:
    steps, values = series.arrays()
    return list(zip(steps.tolist(), values.tolist(), strict=True))


def made(run: Path, steps: int, steps_done: int = 0, scale: float = 1.0) -> History:
    history = History(run, steps_done=steps_done, console=QUIET)
    for step in range(steps_done + 1, steps + 1):
        history.append(step, {"loss": scale / step, "club/audio": -float(step)})
    return history


def same(left: dict[str, Series], right: dict[str, Series]) -> bool:
    return {n: pairs(s) for n, s in left.items()} == {n: pairs(s) for n, s in right.items()}


def test_what_is_logged_can_be_read_by_anybody_and_by_us(tmp_path: Path) -> None:
    history = made(tmp_path, 3)
    lines = [json.loads(line) for line in (tmp_path / METRICS).read_text().splitlines()]
    assert [(line["step"], line["loss"], line["club/audio"]) for line in lines] == [
        (1, 1.0, -1.0),
        (2, 0.5, -2.0),
        (3, 1 / 3, -3.0),
    ]
    assert all(0 < line[SECONDS] < 60 for line in lines)
    assert same(read_history(tmp_path), history.series)


def test_seconds_are_those_of_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([100.0, 105.0, 125.0])
    monkeypatch.setattr("training.history.time.monotonic", lambda: next(now))
    history = History(tmp_path, steps_done=40, console=QUIET)
    history.append(50, {})
    history.append(60, {})
    assert pairs(history.series[SECONDS]) == [(50, 0.5), (60, 2.0)]


@pytest.mark.parametrize("resumed_at", [0, 1, 4, 9])
def test_a_resumed_run_keeps_what_led_to_its_checkpoint_and_nothing_later(
    resumed_at: int, tmp_path: Path
) -> None:
    made(tmp_path, 9)
    again = made(tmp_path, 12, steps_done=resumed_at, scale=2.0)
    expected = [(step, (1.0 if step <= resumed_at else 2.0) / step) for step in range(1, 13)]
    assert pairs(again.series["loss"]) == expected
    assert same(read_history(tmp_path), again.series)


@pytest.mark.parametrize(
    "torn", [b'{"step":4,"lo', b'{"step":4,"loss":1.0}', b"\x00\x00\x00", b'{"loss":1}\n', b"7\n"]
)
def test_half_a_line_is_dropped(torn: bytes, tmp_path: Path) -> None:
    made(tmp_path, 3)
    with (tmp_path / METRICS).open("ab") as file:
        file.write(torn)
    assert [step for step, _ in pairs(read_history(tmp_path)["loss"])] == [1, 2, 3]
    again = made(tmp_path, 5, steps_done=4)
    assert [step for step, _ in pairs(again.series["loss"])] == [1, 2, 3, 5]
    assert same(read_history(tmp_path), again.series)


_ENDLESS = """
import itertools, pathlib, sys
from rich.console import Console
from training.history import History
history = History(pathlib.Path(sys.argv[1]), steps_done=0, console=Console(quiet=True))
for step in itertools.count(1):
    history.append(step, {"loss": 1 / step})
    if step == 50:
        print("on its way", flush=True)
"""


def test_a_killed_run_leaves_whole_lines(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _ENDLESS, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "on its way\n"
        os.kill(process.pid, signal.SIGKILL)
    logged = pairs(read_history(tmp_path)["loss"])
    assert len(logged) >= 50
    assert logged == [(step, 1 / step) for step in range(1, len(logged) + 1)]


def test_figures_may_begin_late_and_need_not_be_numbers(tmp_path: Path) -> None:
    history = History(tmp_path, steps_done=0, console=QUIET)
    history.append(10, {"loss": 1.0, "odd": math.nan})
    history.append(20, {"loss": math.inf, "late": 3.0, "odd": 5.0})
    for series in (history.series, read_history(tmp_path)):
        assert pairs(series["loss"]) == [(10, 1.0)]
        assert pairs(series["odd"]) == [(20, 5.0)]
        assert pairs(series["late"]) == [(20, 3.0)]


def test_a_run_without_a_history_has_an_empty_one(tmp_path: Path) -> None:
    assert read_history(tmp_path) == {}


def test_training_goes_on_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file where the folder should be")
    told = io.StringIO()
    history = History(tmp_path / "run", steps_done=0, console=Console(file=told, width=1000))
    for step in range(1, 4):
        history.append(step, {"loss": 1.0})
    assert told.getvalue().count("training goes on") == 1
    assert len(pairs(history.series["loss"])) == 3


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_line_that_a_full_disk_cut_off_costs_no_other(tmp_path: Path) -> None:
    history = made(tmp_path, 2)
    path = history.path
    history.path = Path("/dev/full")
    history.append(3, {"loss": 3.0})
    with path.open("ab") as file:
        file.write(b'{"step":3,"lo')
    history.path = path
    history.append(4, {"loss": 4.0})
    assert pairs(read_history(tmp_path)["loss"]) == [(1, 1.0), (2, 0.5), (4, 4.0)]
