"""Checkpoints: what is written is read back, and damage is told of instead of loaded."""

from __future__ import annotations

import json
import resource
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tessera.errors import TrainingError
from tests.training.small import QUIET, RandomClips, small_recipe
from training.checkpoint import (
    TrainingState,
    latest_checkpoint,
    load_model,
    load_recipe,
    load_training_state,
    save_checkpoint,
)
from training.models.catalogue import build_model
from training.trainer import train

RUN = ["logs", "metrics.jsonl", "report.html", "step-000003", "step-000006"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe, folder = small_recipe(), tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    train(build_model(recipe), RandomClips(recipe), recipe, folder, console=QUIET)
    return folder


@pytest.fixture
def checkpoint(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained / "step-000006", tmp_path / "step-000006"))


def with_weights(checkpoint: Path, change: dict[str, Tensor | None]) -> None:
    tensors = load_file(checkpoint / "model.safetensors")
    for name, tensor in change.items():
        tensors.pop(name, None)
        if tensor is not None:
            tensors[name] = tensor
    save_file(tensors, checkpoint / "model.safetensors")


def test_a_checkpoint_is_three_files_and_nothing_half_written(trained: Path) -> None:
    assert sorted(folder.name for folder in trained.iterdir()) == RUN
    names = {"model.safetensors", "optimizer.safetensors", "config.json"}
    assert {file.name for file in (trained / "step-000006").iterdir()} == names


def test_a_model_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    recipe = small_recipe()
    model = build_model(recipe)
    model.train().encode(RandomClips(recipe).batch(torch.arange(8)), torch.Generator())
    loaded, its_recipe, step = load_model(save_checkpoint(tmp_path, 12, model, recipe, TrainingState({}), {}))
    assert (its_recipe, step, loaded.training) == (recipe, 12, False)
    assert load_recipe(tmp_path / "step-000012") == (recipe, 12)
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


def test_the_latest_checkpoint_goes_by_its_number(tmp_path: Path) -> None:
    recipe = small_recipe()
    for step in (3, 999_999, 1_000_000, 20):
        save_checkpoint(tmp_path, step, build_model(recipe), recipe, TrainingState({}), {})
    (tmp_path / ".step-2000000").mkdir()
    (tmp_path / "step-3000000").mkdir()
    latest = latest_checkpoint(tmp_path)
    assert latest.name == "step-1000000"
    assert latest_checkpoint(latest) == latest


def test_saving_a_step_again_replaces_it(tmp_path: Path) -> None:
    recipe = small_recipe()
    left_by_a_killed_run = tmp_path / ".step-000001"
    left_by_a_killed_run.mkdir()
    (left_by_a_killed_run / "junk").touch()
    for _ in range(2):
        folder = save_checkpoint(tmp_path, 1, build_model(recipe), recipe, TrainingState({}), {"note": "x"})
    assert [entry.name for entry in tmp_path.iterdir()] == ["step-000001"]
    assert not (folder / "junk").exists()


def test_a_full_disk_leaves_earlier_checkpoints_alone(trained: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    model, recipe, _ = load_model(run / "step-000006")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(
            TrainingError, match=r"step 6 cannot be written .* Earlier checkpoints are intact"
        ):
            save_checkpoint(run, 6, model, recipe, TrainingState({}), {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sorted(folder.name for folder in run.iterdir()) == RUN
    assert load_model(latest_checkpoint(run))[2] == 6


def test_a_damaged_file_is_named(checkpoint: Path) -> None:
    for name in ("model.safetensors", "optimizer.safetensors"):
        data = (checkpoint / name).read_bytes()
        (checkpoint / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(TrainingError, match=r"model\.safetensors' is missing or damaged"):
        load_model(checkpoint)
    with pytest.raises(TrainingError, match=r"optimizer\.safetensors' is missing or damaged"):
        load_training_state(checkpoint, TrainingState({}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"coarse.projector.text.bias": None}, r"lack 'coarse\.projector\.text\.bias' and 0 more"),
        ({"extra": torch.zeros(1)}, r"also hold 'extra' and 0 more"),
        (
            {"coarse.projector.text.bias": torch.zeros(3)},
            r"'coarse\.projector\.text\.bias' is \[3\], its recipe says \[16\]",
        ),
    ],
)
def test_weights_of_another_model_are_told_apart(
    change: dict[str, Tensor | None], message: str, checkpoint: Path
) -> None:
    with_weights(checkpoint, change)
    with pytest.raises(TrainingError, match=message):
        load_model(checkpoint)


@pytest.mark.parametrize("config", ["", "[]", "{}", '{"schema_version": 2, "step": "six", "recipe": {}}'])
def test_a_config_that_cannot_be_read_is_told_of(config: str, checkpoint: Path) -> None:
    (checkpoint / "config.json").write_text(config)
    with pytest.raises(TrainingError, match=r"no config\.json that can be read"):
        load_model(checkpoint)


def test_another_schema_version_and_another_method_are_refused(checkpoint: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps({**config, "schema_version": 1}))
    with pytest.raises(TrainingError, match=r"has schema version 1, this Tessera reads 2"):
        load_model(checkpoint)
    config["recipe"]["method"] = "telepathy"
    (checkpoint / "config.json").write_text(json.dumps(config))
    with pytest.raises(TrainingError, match=r"recipe: method"):
        load_recipe(checkpoint)


def test_optimiser_state_of_another_model_is_refused(checkpoint: Path) -> None:
    one = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])
    with pytest.raises(TrainingError, match="optimiser state of the checkpoint is that of another model"):
        load_training_state(checkpoint, TrainingState({"main": one}))


def test_a_run_without_checkpoints_is_told_of(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="holds no checkpoint"):
        latest_checkpoint(tmp_path)
    with pytest.raises(TrainingError):
        load_model(tmp_path)
