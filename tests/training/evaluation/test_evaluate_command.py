"""`tessera evaluate` through the entry point, on small models of several methods and small stores of every task."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread
from typer.testing import CliRunner

from tessera.cli import build_app
from tessera.errors import TrainingError
from tessera.scores import percent
from tests.tiny import RECIPE
from tests.training.evaluation.known import CLASSES, every_second, write_every_store, write_store
from tests.training.small import small_recipe
from training.checkpoint import TrainingState, save_checkpoint
from training.data.sources import FEATURES
from training.models.catalogue import build_model
from training.randomness import seed_everything

STORED = "ave,avvp,ave-avvp,ucf-vgg,retrieval"
WIDTHS = {"audio_dim": 5, "video_dim": 5, "text_dim": 5}
SPIKED = {"spiked": {"events": 4}, "clips": {"train": 20, "validation": 60, "test": 40}}


def run(*arguments: object) -> str:
    """What the command prints; what it raises is raised."""
    done = CliRunner().invoke(
        build_app(), ["evaluate", *map(str, arguments)], catch_exceptions=False, env={"COLUMNS": "200"}
    )
    assert done.exit_code == 0, done.output
    return done.stdout


def write_run(folder: Path, method: str = "dcid", seed: int = 0, **parts: dict[str, Any]) -> Path:
    """A checkpoint of a small model with fresh weights."""
    parts = {"model": WIDTHS, **parts, "training": {"seed": seed}}
    recipe = small_recipe(method, **parts)
    seed_everything(seed)
    save_checkpoint(folder, 1, build_model(recipe), recipe, TrainingState({}), {})
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stores")
    write_every_store(folder)
    return folder


@pytest.fixture(scope="module")
def dcid(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    return [write_run(folder / str(seed), "dcid-mean", seed) for seed in (0, 1)]


@pytest.mark.parametrize("protocol", ["held_out", "paper"])
def test_every_stored_task_makes_one_table(
    protocol: str, data: Path, dcid: list[Path], tmp_path: Path
) -> None:
    files = {name: tmp_path / name for name in ("scores.json", "scores.md", "scores.png", "codes.png")}
    shown = run(
        *dcid,
        *("--tasks", STORED, "--data", data, "--protocol", protocol),
        *("--keep", 8, "--seeds", 2, "--epochs", 2, "--out", files["scores.json"]),
        *("--markdown", files["scores.md"], "--plot", files["scores.png"], "--codes", files["codes.png"]),
    )
    document = json.loads(files["scores.json"].read_text())
    assert document["seeds"] == [0, 1]
    assert document["protocol"] == protocol
    assert document["kept_channels"] == 8
    tasks = ["ave", "avvp", "ave-avvp", "ucf-vgg", "mscoco", "clotho", "flickrsound"]
    assert list(document["tasks"]) == tasks
    written = files["scores.md"].read_text()
    for name, scores in document["tasks"].items():
        assert len(scores["directions"]) == 2
        assert 0 <= scores["mean"]["mean"] <= 1
        assert scores["mean"]["half_width"] is not None
        for direction, value in scores["directions"].items():
            assert f"| {direction} | {percent(value)} |" in written
        assert name in shown
        assert scores["caption"] in written
    columns = {line.count("|") for line in written.splitlines() if line.startswith("|")}
    assert columns == {6}
    for picture in ("scores.png", "codes.png"):
        assert imread(files[picture]).std() > 0.02


@pytest.mark.parametrize("method", ["hdcid-mean", "fcid", "dcid-residual"])
def test_every_kind_of_codebook_is_scored(method: str, data: Path, tmp_path: Path) -> None:
    folder, out = write_run(tmp_path / "run", method), tmp_path / "scores.json"
    run(folder, "--tasks", "ave,retrieval", "--data", data, "--epochs", 1, "--out", out, "--seeds", 1)
    scores = json.loads(out.read_text())["tasks"]["ave"]
    levels = 1 if method == "fcid" else 2
    assert len(scores["codebook"]) == 2 * levels
    assert scores["heads"] == 1
    assert scores["mean"]["half_width"] is None


def test_spiked_events_are_the_task_of_a_recipe_of_them(tmp_path: Path) -> None:
    widths = {"audio_dim": 64, "video_dim": 128, "text_dim": 48}
    folder = write_run(tmp_path / "run", "dcid-mean", model={**widths, "video_branch": "mean"}, data=SPIKED)
    out = tmp_path / "scores.json"
    shown = run(folder, "--out", out)
    document = json.loads(out.read_text())
    assert list(document["tasks"]) == ["spiked"]
    assert document["chance"] == 0.25
    assert document["nuisance"].keys() == {"audio", "video", "text"}
    assert len(document["directions"]) == 6
    assert "nuisance in text (R^2)" in shown


def test_the_world_is_the_task_of_a_recipe_of_it(tiny_run: Path, tmp_path: Path) -> None:
    """As `make demo-bundle` calls it, and with the keys that the export reads."""
    out = tmp_path / "scores.json"
    shown = run(tiny_run, "--keep", 16, "--out", out, "--cache", tmp_path / "cache")
    document = json.loads(out.read_text())
    assert document.keys() >= {
        *("protocol", "seeds", "clips", "kept_channels", "toc_lambda", "chance"),
        *("directions", "mean", "within", "codebook", "agreement"),
    }
    assert document["clips"] == {"fit": 8, "test": 8}
    assert document["chance"] == pytest.approx(1 / 28)
    assert document["kept_channels"] == 16
    assert len(document["directions"]) == 6
    assert all(value["half_width"] is None for value in document["directions"].values())
    for use in document["codebook"].values():
        assert 1 <= use["perplexity"] <= use["used"] <= use["size"] == RECIPE.codebook.size
    assert all(0 <= share <= 1 for share in document["agreement"].values())
    assert "audio alone" in shown


def test_what_cannot_be_scored_is_said(dcid: list[Path], data: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="different seeds"):
        run(dcid[0], dcid[0], "--tasks", "ave", "--data", data)
    other = write_run(tmp_path / "other", "dcid-mean", 5, codebook={"size": 9})
    with pytest.raises(TrainingError, match="different recipes"):
        run(dcid[0], other, "--tasks", "ave", "--data", data)
    with pytest.raises(TrainingError, match="--tasks"):
        run(dcid[0])
    with pytest.raises(TrainingError, match="no task 'avs'; there are: ave"):
        run(dcid[0], "--tasks", "ave,avs")
    with pytest.raises(TrainingError, match="twice"):
        run(dcid[0], "--tasks", "ave,ave")
    with pytest.raises(TrainingError, match="--data"):
        run(dcid[0], "--tasks", "ave")
    with pytest.raises(TrainingError, match="picture"):
        run(dcid[0], "--tasks", "ave", "--data", data, "--codes", tmp_path / "codes.txt")
    with pytest.raises(TrainingError, match="1 to 16 channels"):
        run(dcid[0], "--tasks", "ave", "--data", data, "--keep", 17)
    with pytest.raises(TrainingError, match="the runs were not trained on the generated world"):
        run(dcid[0], "--tasks", "world")
    with pytest.raises(TrainingError, match="the runs were not trained on spiked events"):
        run(dcid[0], "--tasks", "spiked")
    wide = write_run(tmp_path / "wide", model={**WIDTHS, "video_dim": 7})
    message = "data of 'ave' and the recipe do not match: video is 5 features wide, video_dim is 7"
    with pytest.raises(TrainingError, match=message):
        run(wide, "--tasks", "ave", "--data", data)
    deaf = write_run(tmp_path / "deaf", "dcid-vt")
    with pytest.raises(TrainingError, match="'ave' needs audio"):
        run(deaf, "--tasks", "ave", "--data", data)


@pytest.mark.parametrize("option", ["--out", "--markdown", "--plot"])
def test_a_path_that_cannot_be_written_is_told_of_before_the_scoring(option: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match=r"x\.png' cannot be written"):
        run(tmp_path / "none", option, tmp_path / "file" / "below" / "x.png")
    (tmp_path / "x.png").mkdir()
    with pytest.raises(TrainingError, match=r"x\.png' is a folder; name a file in it"):
        run(tmp_path / "none", option, tmp_path / "x.png")


def test_a_model_is_scored_by_the_slots_that_it_learnt_from(data: Path, tmp_path: Path) -> None:
    """Captions that are padded have other codes where the padding counts."""
    stores, labels = tmp_path / "stores", np.arange(CLASSES)
    write_store(
        stores, "clotho", every_second(labels), labels=labels, texts=(labels, labels.tolist()), words=3
    )
    use = {}
    for every_slot in (False, True):
        folder = write_run(tmp_path / str(every_slot), "fcid", data={"every_slot": every_slot})
        out = tmp_path / f"{every_slot}.json"
        run(folder, "--tasks", "retrieval", "--data", stores, "--out", out)
        use[every_slot] = json.loads(out.read_text())["tasks"]["clotho"]["codebook"]
    assert use[False] != use[True]


@pytest.mark.parametrize(("said", "foreign"), [("one in five", False), ("one in four", True), (None, False)])
def test_features_of_another_convention_are_told_from_those_of_the_training(
    said: str | None, foreign: bool, data: Path, tmp_path: Path
) -> None:
    folder = write_run(tmp_path, "dcid-mean")
    if said is not None:
        (folder / "step-000001" / FEATURES).write_text(json.dumps({"audio": said}))
    shown = run(folder, "--tasks", "ave", "--data", data, "--epochs", 1)
    sentence = "Mind that its audio is of 'one in five'; the model was trained on 'one in four'."
    assert (sentence in " ".join(shown.split())) == foreign


@pytest.mark.parametrize("text", ["[]", '"x"', '{"audio": null}', "{"])
def test_a_checkpoint_that_says_nonsense_of_its_features_is_named(
    text: str, data: Path, tmp_path: Path
) -> None:
    folder = write_run(tmp_path, "dcid-mean")
    (folder / "step-000001" / FEATURES).write_text(text)
    with pytest.raises(TrainingError, match=r"step-000001/features.json' is damaged"):
        run(folder, "--tasks", "ave", "--data", data)


def test_the_same_command_says_the_same(dcid: list[Path], data: Path, tmp_path: Path) -> None:
    outs = [tmp_path / name for name in ("a.json", "b.json")]
    for out in outs:
        run(dcid[0], "--tasks", "ave", "--data", data, "--protocol", "paper", "--epochs", 2, "--out", out)
    assert outs[0].read_text() == outs[1].read_text()
    figures = json.loads(outs[0].read_text())["tasks"]["ave"]["figures"]["audio -> video"]["accuracy"]
    assert np.isfinite(figures["half_width"])
