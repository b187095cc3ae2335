"""`tessera results`: jobs are done once, an unfinished table goes on, and the figures are those of the jobs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from matplotlib.patches import Rectangle
from rich.console import Console
from typer.testing import CliRunner

from tessera.cli import build_app
from tessera.errors import TrainingError
from training.config import Recipe
from training.data.working_folder import locked
from training.results.chart import results_figure
from training.results.job import Document, TrainingJob
from training.results.ledger import Ledger
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
    ledger = out.with_suffix(".jsonl")
    made = ledger.read_text()
    assert made.count("\n") == 8
    assert list(runs.iterdir()) == []
    out.write_text(out.read_text().replace("# Results", "# Results\n\nWhat we think of them."))
    again = CliRunner().invoke(build_app(), [*command[:-1], "2"])
    assert again.exit_code == 0, again.output
    assert ledger.read_text().startswith(made)
    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    assert len({line["key"] for line in lines}) == len(lines) == 16
    assert list(runs.iterdir()) == []
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
        line["scores"]["all"]["directions"]["audio -> text"]
        for line in lines
        if (line["setting"], line["row"]) == ("odd", "first")
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
    # The ledger is all that the tables are made of.
    other = tmp_path / "other.md"
    shutil.copy(ledger, other.with_suffix(".jsonl"))
    elsewhere = ["results", str(plan), "--out", str(other), "--runs", str(tmp_path / "none"), "--seeds", "2"]
    assert CliRunner().invoke(build_app(), elsewhere).exit_code == 0
    assert other.with_suffix(".json").read_text() == out.with_suffix(".json").read_text()
    assert other.with_suffix(".jsonl").read_text() == ledger.read_text()


def test_two_do_not_train_in_one_folder(plan: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    command = ["results", str(plan), "--out", str(tmp_path / "x.md"), "--runs", str(runs), "--seeds", "1"]
    with locked(runs), pytest.raises(TrainingError, match=r"another process is writing '.*runs'"):
        CliRunner().invoke(build_app(), command, catch_exceptions=False)
    assert not (tmp_path / "x.jsonl").exists()


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
    for suffix in (".json", ".jsonl"):
        with pytest.raises(TrainingError, match="is to be markdown"):
            CliRunner().invoke(
                build_app(), [*command, "--out", str(tmp_path / f"x{suffix}")], catch_exceptions=False
            )
    (tmp_path / "file").write_text("")
    for path, message in ((tmp_path, "is a folder"), (tmp_path / "file" / "x.md", "cannot be written")):
        with pytest.raises(TrainingError, match=message):
            CliRunner().invoke(build_app(), [*command, "--out", str(path)], catch_exceptions=False)
    assert not runs.exists()


def test_tables_stand_between_the_marks(plan: Path, tmp_path: Path) -> None:
    jobs, ledger = list(Plan.load(str(plan)).jobs(1))[:1], Ledger(tmp_path / "x.jsonl", QUIET)
    run_jobs(jobs, ledger, tmp_path / "runs", tmp_path, 1, QUIET)
    document, out = results_document("x", jobs, ledger), tmp_path / "notes.md"
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
    folder, ledger = job.folder(tmp_path / "runs"), Ledger(tmp_path / "x.jsonl", QUIET)
    whole = job.make(folder, tmp_path)
    assert whole["seconds"] > 0
    shutil.rmtree(folder / "step-000004")
    run_jobs([job], ledger, tmp_path / "runs", tmp_path, 1, QUIET)
    assert ledger.scores(job) == {**whole, "seconds": None}
    assert not folder.exists()
    document = results_document("x", [job], ledger)
    assert "M | - |" in markdown(document)


def test_an_unfinished_table_has_the_rows_that_are_done(plan: Path, tmp_path: Path) -> None:
    jobs, ledger = list(Plan.load(str(plan)).jobs(2)), Ledger(tmp_path / "x.jsonl", QUIET)
    run_jobs(jobs[:2], ledger, tmp_path / "runs", tmp_path, 1, QUIET)
    document = results_document("x", jobs, ledger)
    assert list(document["settings"]) == ["even"]
    assert list(document["settings"]["even"]["rows"]) == [job.row for job in jobs[:2]]
    assert "\n1 seed, chance" in markdown(document)
    assert "| unaligned k-means | all |" in markdown(document)


def test_a_row_of_fewer_seeds_than_others_says_so(plan: Path, tmp_path: Path) -> None:
    jobs, ledger = list(Plan.load(str(plan)).jobs(3)), Ledger(tmp_path / "x.jsonl", QUIET)
    done = [job for job in jobs if job.setting == "even" and job.row in ("unaligned k-means", "first")]
    scores = done[0].make(tmp_path, tmp_path)
    # Three seeds of the control, one of the row.
    for job in done:
        if job.row != "first" or job.seed == 0:
            ledger.add(job, scores)
    text = markdown(results_document("x", jobs, ledger))
    assert "\n3 seeds, chance" in text
    assert "| unaligned k-means | all |" in text
    assert "| first (1 seed) | all |" in text


def test_a_picture_of_settings_with_other_rows_each_has_every_bar_at_its_name() -> None:
    def setting(**rows: float) -> Document:
        return {
            "oracle": None,
            "chance": 0.1,
            "rows": {
                name: {"parameters": 1, "all": {"mean": {"mean": mean, "half_width": None}}}
                for name, mean in rows.items()
            },
        }

    figure = results_figure(
        {"settings": {"even": setting(a=0.1, b=0.2, c=0.3), "odd": setting(c=0.4, d=0.5)}}
    )
    figure.canvas.draw()
    (left, right) = figure.axes
    names = {label.get_position()[1]: label.get_text() for label in left.get_yticklabels()}
    assert [
        (names[round(bar.get_y() + bar.get_height() / 2)], round(bar.get_width()))
        for panel in (left, right)
        for bar in panel.patches
        if isinstance(bar, Rectangle)
    ] == [("a", 10), ("b", 20), ("c", 30), ("c", 40), ("d", 50)]


def test_a_job_that_fails_ends_the_run_with_its_reason(plan: Path, tmp_path: Path) -> None:
    document = yaml.safe_load((tmp_path / "first.yaml").read_text())
    document["training"]["batch_size"] = 41
    (tmp_path / "first.yaml").write_text(yaml.safe_dump(document))
    out = tmp_path / "tables.md"
    command = ["results", str(plan), "--out", str(out), "--runs", str(tmp_path / "runs"), "--seeds", "1"]
    with pytest.raises(TrainingError, match="40 clips do not fill a batch of 41"):
        CliRunner().invoke(build_app(), [*command, "--jobs", "1"], catch_exceptions=False)
    assert "| unaligned k-means | all |" in out.read_text()
    assert "| first | all |" not in out.read_text()
    # Mended, it is another job; those that were done are not done again.
    kept = out.with_suffix(".jsonl").read_text()
    assert kept.count("\n") == 2
    document["training"]["batch_size"] = 8
    (tmp_path / "first.yaml").write_text(yaml.safe_dump(document))
    assert CliRunner().invoke(build_app(), command, catch_exceptions=False).exit_code == 0
    assert out.with_suffix(".jsonl").read_text().startswith(kept)
    assert out.with_suffix(".jsonl").read_text().count("\n") == 8
    assert out.read_text().count("| first | all |") == 2


def test_a_changed_recipe_is_another_job(plan: Path, tmp_path: Path) -> None:
    before = list(Plan.load(str(plan)).jobs(1))
    document = yaml.safe_load((tmp_path / "first.yaml").read_text())
    document["training"]["steps"] = 5
    (tmp_path / "first.yaml").write_text(yaml.safe_dump(document))
    after, ledger = list(Plan.load(str(plan)).jobs(1)), Ledger(tmp_path / "x.jsonl", QUIET)
    for job in before:
        ledger.add(job, {"seconds": 0.0})
    assert [job.row for job in after if ledger.scores(job) is None] == ["first", "first"]


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
