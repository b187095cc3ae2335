"""The report of a run: one page that stands alone, with every figure of its history."""

from __future__ import annotations

import io
import math
import re
from array import array
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from rich.console import Console

from tests.training.small import QUIET, small_recipe
from training.history import History, Series, read_history
from training.plots.curves import Curve, Scale
from training.plots.report import REPORT, groups, report_html, write_report

_XHTML = re.compile("<!DOCTYPE html>\n")
_SVG = "{http://www.w3.org/2000/svg}"
NAMES = (
    "loss",
    "cpc",
    "club/audio",
    "club/video",
    "club_likelihood/audio",
    "reconstruction/coarse_text",
    "level2/reconstruction/audio",
    "level2/cpc",
    "codebook/perplexity",
    "codebook/perplexity_audio",
    "codebook/used",
    "codebook/used_audio",
    "level2/codebook/used",
    "agreement/audio_text",
    "learning_rate",
)


def series(values: list[float], every: int = 10) -> Series:
    steps = range(every, every * len(values) + 1, every)
    return Series(array("q", steps), array("d", values))


def logged(run: Path, steps: int = 60) -> History:
    rng = np.random.default_rng(0)
    history = History(run, steps_done=0, console=QUIET)
    for step in range(10, 10 * steps + 1, 10):
        figures = {name: float(math.exp(-step / 200) * (1 + 0.1 * rng.normal())) for name in NAMES}
        history.append(step, {**figures, "warm_start/mutual_information": -0.3})
    return history


def parsed(html: str) -> ElementTree.Element:
    return ElementTree.fromstring(_XHTML.sub("", html))


def texts(root: ElementTree.Element, tag: str) -> list[str]:
    return ["".join(element.itertext()) for element in root.iter(tag)]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> ElementTree.Element:
    run = tmp_path_factory.mktemp("run")
    logged(run)
    write_report(run, read_history(run), small_recipe(), QUIET)
    assert {path.name for path in run.iterdir()} == {"metrics.jsonl", "report.html"}
    return parsed((run / REPORT).read_text())


def test_every_figure_has_its_last_values(report: ElementTree.Element) -> None:
    rows = {row[0].text: [cell.text for cell in row] for row in report.iter("tr") if len(row) == 6}
    assert rows.keys() >= set(NAMES)
    assert rows["warm_start/mutual_information"][1:] == ["-0.3"] * 5


def test_every_group_has_a_chart(report: ElementTree.Element) -> None:
    captions = {(one.text or "").strip(): "".join(one.itertext()) for one in report.iter("figcaption")}
    for title, labels in {
        "sum of the weighted losses": ["loss"],
        "cpc": ["cpc"],
        "club": ["audio", "video"],
        "club likelihood": ["audio"],
        "level 2: reconstruction": ["audio"],
        "level 2: cpc": ["cpc"],
        "perplexity of the codebook": ["all", "audio"],
        "share of the codes in use": ["all", "audio"],
        "level 2: share of the codes in use": ["all"],
        "agreement on a code": ["audio_text"],
        "learning rate": ["learning_rate"],
        "seconds per step": ["seconds_per_step"],
        "clips per second": ["clips_per_second"],
    }.items():
        assert all(label in captions[title].removeprefix(title) for label in labels)
    # The likelihood, reconstruction and warm start are the rest.
    assert len(captions) == 15


def test_charts_are_drawn_and_their_lines_are_not_flat(report: ElementTree.Element) -> None:
    for figure in report.iter("figure"):
        svg = figure.find(f"{_SVG}svg")
        assert svg is not None
        view = [float(number) for number in svg.attrib["viewBox"].split()]
        lines = [
            np.array(re.findall(r"[ML] (\S+) (\S+)", path.attrib["d"]), dtype=float)
            for path in svg.iter(f"{_SVG}path")
            if "clip-path" in path.attrib
        ]
        curves = [line for line in lines if len(line) > 30]
        assert len(curves) >= 2
        for line in curves:
            assert 0 <= line[:, 0].min() < line[:, 0].max() <= view[2]
            caption = "".join(figure.itertext())
            if "warm start" not in caption:
                assert np.ptp(line[:, 1]) > 0.1 * view[3]
        assert len(list(svg.iter(f"{_SVG}text"))) >= 6


def test_the_page_needs_nothing_else(report: ElementTree.Element) -> None:
    for element in report.iter():
        assert element.tag.split("}")[-1] not in {"script", "link", "img", "iframe"}
        for name, value in element.attrib.items():
            if name.split("}")[-1] in {"href", "src"}:
                assert value.startswith("#")
    ids = [element.attrib["id"] for element in report.iter() if "id" in element.attrib]
    assert ids
    assert len(ids) == len(set(ids))


def test_the_recipe_is_told(report: ElementTree.Element) -> None:
    assert texts(report, "h1") == ["small"]
    rows = {tuple(cell.text for cell in row) for row in report.iter("tr")}
    assert {("name", "small"), ("size", "12"), ("video_hidden", "4, 6"), ("weights", "none")} <= rows
    assert "600 of 6 steps" in texts(report, "p")[0]


def test_names_and_recipes_are_text_not_markup() -> None:
    recipe = small_recipe().model_copy(update={"name": "<b>&"})
    root = parsed(report_html({"a<b>&/c'\"": series([1.0, 2.0])}, recipe))
    assert texts(root, "h1") == ["<b>&"]
    assert any("a<b>&/c'\"" in cell for cell in texts(root, "td"))


@pytest.mark.parametrize(
    "values",
    [[], [3.0], [0.0, 0.0], [1e-30, 1e30], [-1.0, 2.0], [5.0] * 1000],
    ids=lambda values: f"{values[:2]}",
)
def test_odd_histories_are_drawn(values: list[float]) -> None:
    figures = {
        name: series(values) for name in ("loss", "codebook/perplexity", "agreement/a_b", "seconds_per_step")
    }
    if min(values, default=1) <= 0:
        del figures["seconds_per_step"]
    root = parsed(report_html(figures, small_recipe()))
    assert len(list(root.iter("figure"))) == (len(figures) + ("seconds_per_step" in figures) if values else 0)


def test_a_long_run_makes_a_report_no_larger(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    sizes = [
        len(report_html({"loss": series(rng.normal(size=count).tolist())}, small_recipe()))
        for count in (1_000, 100_000)
    ]
    assert sizes[1] < 1.1 * sizes[0]


def test_thinning_keeps_extremes_the_last_step_and_the_mean() -> None:
    values = np.sin(np.arange(10_000) / 700) + 0.1 * np.random.default_rng(2).normal(size=10_000)
    values[5_432] = 9.0
    values[7_777] = -9.0
    curve = Curve.of(series(values.tolist()))
    assert len(curve.raw) == 2 * len(curve.smooth) == 600
    assert (curve.raw.max(), curve.raw.min()) == (9.0, -9.0)
    assert curve.steps[-1] == curve.raw_steps[-1] == 100_000
    for step, smooth in list(zip(curve.steps, curve.smooth, strict=True))[10:-10]:
        place = int(step) // 10 - 1
        assert smooth == pytest.approx(values[place - 125 : place + 125].mean(), abs=1e-9)


def test_a_scale_is_logarithmic_where_curves_span_decades() -> None:
    falling = Curve.of(series(np.geomspace(1, 1e-4, 200).tolist()))
    flat = Curve.of(series(np.linspace(2, 1, 200).tolist()))
    signed = falling.map(lambda values: values - 0.01)
    assert Scale.of([falling], from_zero=False).log
    assert Scale.of([falling, flat], from_zero=False).log
    assert not Scale.of([flat], from_zero=False).log
    assert not Scale.of([signed], from_zero=False).log
    assert Scale.of([flat], from_zero=True).low == 0


def test_one_wild_value_does_not_hide_the_rest() -> None:
    values = [1.0 + 0.01 * (i % 7) for i in range(2_000)]
    values[500] = 1e6
    scale = Scale.of([Curve.of(series(values))], from_zero=False)
    assert scale.high < 1e5


def test_groups() -> None:
    found = {group.name: group.members for group in groups(NAMES)}
    assert found["level2/reconstruction"] == {"audio": "level2/reconstruction/audio"}
    assert found["codebook/used"] == {"all": "codebook/used", "audio": "codebook/used_audio"}
    assert found["level2/cpc"] == {"cpc": "level2/cpc"}
    assert sorted(name for members in found.values() for name in members.values()) == sorted(NAMES)


def test_a_report_that_cannot_be_written_is_said_and_the_older_one_stays(tmp_path: Path) -> None:
    told = io.StringIO()
    console = Console(file=told, width=1000)
    (tmp_path / REPORT).mkdir()
    write_report(tmp_path, {}, small_recipe(), console)
    assert "cannot be written (IsADirectoryError); training goes on" in told.getvalue()
    assert [path.name for path in tmp_path.iterdir()] == [REPORT]
