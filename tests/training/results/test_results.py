"""`tessera results`: jobs are done once, an unfinished table goes on, and the figures are those of the jobs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from tessera.cli import build_app
from tessera.errors import TrainingError
from training.config import Recipe
from training.results.job import TrainingJob
from training.results.plan import Plan, plan_names
from training.results.report import BEGIN, END, write_report
from training.results.runner import run_jobs
from training.results.table import markdown, results_document

QUIET = Console(quiet=True)
RECIPE = {
    "method": "cmcm",
    "model": {
        "layers": 1,
        "dim": 16,
        "heads": 2,
        "feed_forward": 16,
        "audio_dim": 64,
        "video_dim": 128,
        "text_dim": 48,
        "squeeze_dim": 4,
        "video_branch": "mean",
    },
    "codebook": {"size": 8, "partners": "none"},
    "training": {"steps": 4, "batch_size": 8, "save_every": 2},
    "data": {"spiked": {"events": 3}, "clips": {"train": 40, "validation": 30, "test": 30}},
}


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    for name in ("first", "second"):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({"name": name, **RECIPE}))
    document = {
        "title": "Two recipes",
        "keep": 0.5,
        "codes": 8,
        "dims": [2],
        "settings": {"even": {}, "odd": {"spiked": {"nuisance_correlation": 0.9}}},
        "rows": {name: str(tmp_path / f"{name}.yaml") for name in ("first", "second")},
    }
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def test_every_plan_of_tessera_has_recipes_on_equal_data() -> None:
    assert plan_names()
    for name in plan_names():
        plan = Plan.load(name)
        first, *others = (Recipe.load(recipe).data for recipe in plan.rows.values())
        assert all(one == first for one in others)
        assert len(list(plan.jobs(1))) > len(plan.rows)


def test_a_row_on_other_data_is_refused_by_its_label(plan: Path, tmp_path: Path) -> None:
    document = yaml.safe_load((tmp_path / "second.yaml").read_text())
    document["data"]["spiked"]["events"] = 4
    (tmp_path / "second.yaml").write_text(yaml.safe_dump(document))
    with pytest.raises(TrainingError, match="row 'second' is on other data than row 'first'"):
        list(Plan.load(str(plan)).jobs(1))


def test_a_label_is_no_path(plan: Path) -> None:
    document = yaml.safe_load(plan.read_text())
    document["rows"] = {"../a/b: c\\d": document["rows"]["first"]}
    plan.write_text(yaml.safe_dump(document))
    job = list(Plan.load(str(plan)).jobs(1))[-1]
    folder = job.folder(Path("runs"))
    assert folder.parent == Path("runs")
    assert folder.name.startswith("odd-a-b-c-d-0-")


def test_a_plan_trains_every_row_of_every_setting_beside_its_controls(plan: Path) -> None:
    jobs = list(Plan.load(str(plan)).jobs(2))
    rows = ["unaligned k-means", "linear CCA, 2 dimensions + k-means", "first", "second"]
    assert [(job.seed, job.setting, job.row) for job in jobs] == [
        (seed, setting, row) for seed in range(2) for setting in ("even", "odd") for row in rows
    ]
    assert len({str(job.folder(Path())) for job in jobs}) == len(jobs)


def test_the_command_writes_tables_and_goes_on_where_it_was(plan: Path, tmp_path: Path) -> None:
    out, runs = tmp_path / "docs" / "tables.md", tmp_path / "runs"
    command = ["results", str(plan), "--out", str(out), "--runs", str(runs), "--seeds", "1"]
    first = CliRunner().invoke(build_app(), command)
    assert first.exit_code == 0, first.output
    made = {path: path.stat().st_mtime_ns for path in runs.glob("*/scores.json")}
    assert len(made) == 8
    out.write_text(out.read_text().replace("# Results", "# Results\n\nWhat we think of them."))
    again = CliRunner().invoke(build_app(), [*command[:-1], "2"])
    assert again.exit_code == 0, again.output
    assert len(list(runs.glob("*/scores.json"))) == 16
    assert all(path.stat().st_mtime_ns == when for path, when in made.items())
    text = out.read_text()
    assert text.count("### even") == 1
    assert "What we think of them." in text
    assert "2 seeds, chance 33.3 %, oracle on the true latents" in text
    assert text.count("| first | all |") == 2
    assert text.count("| TOC 8 |") == 4
    assert (out.parent / "tables-0.png").read_bytes().startswith(b"\x89PNG")
    (document,) = json.loads(out.with_suffix(".json").read_text())
    row = document["settings"]["odd"]["rows"]["first"]
    values = [
        json.loads(path.read_text())["all"]["directions"]["audio -> text"]
        for path in runs.glob("odd-first-*/scores.json")
    ]
    assert row["all"]["directions"]["audio -> text"]["mean"] == pytest.approx(np.mean(values))
    assert row["seeds"] == 2
    linear = document["settings"]["odd"]["rows"]["linear CCA, 2 dimensions + k-means"]
    leads = [
        value["mean"] - linear["all"]["directions"][direction]["mean"]
        for direction, value in row["all"]["directions"].items()
    ]
    assert row["all"]["lead"] == pytest.approx(min(leads))
    assert "lead" not in linear["all"]
    assert f"| {100 * min(leads):+.1f} |" in text


def test_a_file_of_somebody_is_not_overwritten(plan: Path, tmp_path: Path) -> None:
    out, runs = tmp_path / "notes.md", tmp_path / "runs"
    command = ["results", str(plan), "--out", str(out), "--runs", str(runs), "--seeds", "1"]
    for text in ("Mine.", f"Mine. {END} {BEGIN}"):
        out.write_text(text)
        with pytest.raises(
            TrainingError, match=r"put the lines '<!-- tables.*' and '<!-- end of tables -->'"
        ):
            CliRunner().invoke(build_app(), command, catch_exceptions=False)
        assert out.read_text() == text
    (tmp_path / "file").write_text("")
    for path, message in ((tmp_path, "is a folder"), (tmp_path / "file" / "x.md", "cannot be written")):
        with pytest.raises(TrainingError, match=message):
            CliRunner().invoke(build_app(), [*command, "--out", str(path)], catch_exceptions=False)
    assert not runs.exists()


def test_tables_stand_between_the_marks(plan: Path, tmp_path: Path) -> None:
    jobs = list(Plan.load(str(plan)).jobs(1))[:1]
    run_jobs(jobs, tmp_path / "runs", tmp_path, 1, QUIET)
    document, out = results_document("x", jobs, tmp_path / "runs"), tmp_path / "notes.md"
    out.write_text(f"Before.\n{BEGIN}\nold\n{END}\nAfter.\n")
    for command in ("first", "second"):
        write_report([document], command, out)
    text = out.read_text()
    assert text.startswith(f"Before.\n{BEGIN}\n```console\n$ second\n```\n")
    assert text.endswith(f"{END}\nAfter.\n")
    assert "old" not in text
    assert text.count("```console") == text.count("### even") == 1


def test_what_a_stopped_training_took_is_not_told(plan: Path, tmp_path: Path) -> None:
    job = next(job for job in Plan.load(str(plan)).jobs(1) if isinstance(job, TrainingJob))
    folder, runs = job.folder(tmp_path / "runs"), tmp_path / "runs"
    job.run(runs, tmp_path)
    (whole,) = results_document("x", [job], runs)["settings"]["even"]["rows"].values()
    assert whole["seconds"] > 0
    for left in (folder / "scores.json", *(folder / "step-000004").iterdir(), folder / "step-000004"):
        left.rmdir() if left.is_dir() else left.unlink()
    job.run(runs, tmp_path)
    document = results_document("x", [job], runs)
    (row,) = document["settings"]["even"]["rows"].values()
    assert row == {**whole, "seconds": None}
    assert "M | - |" in markdown(document)


def test_an_unfinished_table_has_the_rows_that_are_done(plan: Path, tmp_path: Path) -> None:
    jobs = list(Plan.load(str(plan)).jobs(1))
    run_jobs(jobs[:2], tmp_path / "runs", tmp_path, 1, QUIET)
    document = results_document("x", jobs, tmp_path / "runs")
    assert list(document["settings"]) == ["even"]
    assert list(document["settings"]["even"]["rows"]) == [job.row for job in jobs[:2]]
    assert "| unaligned k-means | all |" in markdown(document)


def test_a_job_that_fails_ends_the_run_with_its_reason(plan: Path, tmp_path: Path) -> None:
    document = yaml.safe_load((tmp_path / "first.yaml").read_text())
    document["training"]["batch_size"] = 41
    (tmp_path / "first.yaml").write_text(yaml.safe_dump(document))
    jobs = list(Plan.load(str(plan)).jobs(1))
    with pytest.raises(TrainingError, match="40 clips do not fill a batch of 41"):
        run_jobs(jobs, tmp_path / "runs", tmp_path, 1, QUIET)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title: x", "keep: Field required"),
        ("[1, 2]", "the document: Input should be a valid dictionary"),
    ],
)
def test_a_wrong_plan_is_told_of(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(TrainingError, match=message):
        Plan.load(str(tmp_path / "p.yaml"))


def test_an_unknown_plan_is_told_of_with_those_that_there_are() -> None:
    with pytest.raises(TrainingError, match=r"there is no plan 'nix'; known: .*spiked"):
        Plan.load("nix")
