"""The training loop: exact resume, sampling, order of a step, and clear ends to runs that cannot go on."""

from __future__ import annotations

import io
import math
import os
import resource
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor

from tessera.errors import TrainingError
from tests.training.small import METHODS, QUIET, RandomClips, small_recipe
from training.checkpoint import load_model
from training.config import Recipe, TrainingConfig
from training.loop import learning_rate
from training.models.catalogue import build_model
from training.randomness import seed_everything
from training.trainer import sampled_indices, train


def run(folder: Path, recipe: Recipe, **settings: Any) -> Path:
    seed_everything(recipe.training.seed)
    return train(build_model(recipe), RandomClips(recipe), recipe, folder, **{"console": QUIET, **settings})


def stored(checkpoint: Path) -> dict[str, Tensor]:
    return {
        f"{file}/{name}": tensor
        for file in ("model", "optimizer")
        for name, tensor in load_file(checkpoint / f"{file}.safetensors").items()
    }


def assert_same(left: Path, right: Path) -> None:
    first, second = stored(left), stored(right)
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


@pytest.mark.parametrize("method", METHODS)
def test_a_resumed_run_ends_bit_for_bit_as_one_that_was_never_stopped(method: str, tmp_path: Path) -> None:
    crop = {} if method.endswith("paper") else {"crop": [1, 10], "schedule": "cosine"}
    recipe = small_recipe(method, training=crop)
    whole = run(tmp_path / "whole", recipe)
    assert whole.name == "step-000006"
    # Another process: a fresh model of another seed, and a generator in another state.
    torch.manual_seed(999)
    resumed = train(
        build_model(recipe),
        RandomClips(recipe),
        recipe,
        tmp_path / "again",
        resume=tmp_path / "whole" / "step-000003",
        console=QUIET,
    )
    assert_same(whole, resumed)


@pytest.mark.parametrize(
    "training",
    [
        {"accumulate": 2},
        {"encodes": "each"},
        {"precision": "bfloat16"},
        {"precision": "float64"},
        {"accumulate": 2, "encodes": "each", "precision": "float64"},
    ],
)
def test_every_way_to_take_steps_learns_and_resumes(training: dict[str, Any], tmp_path: Path) -> None:
    recipe = small_recipe("hdcid", training=training)
    plain = run(tmp_path / "plain", small_recipe("hdcid"))
    whole = run(tmp_path / "whole", recipe)
    resumed = run(tmp_path / "again", recipe, resume=tmp_path / "whole" / "step-000003")
    assert_same(whole, resumed)
    assert any(
        not torch.equal(a, b) for a, b in zip(stored(plain).values(), stored(whole).values(), strict=True)
    )


@pytest.mark.parametrize(("encodes", "expected"), [("once", "e" + 5 * "i" + "m"), ("each", 5 * "ei" + "em")])
def test_as_published_the_encoder_runs_before_every_inner_step_and_last_for_the_losses(
    encodes: str, expected: str, tmp_path: Path
) -> None:
    recipe = small_recipe(training={"encodes": encodes, "steps": 1})
    model = build_model(recipe)
    calls: list[str] = []
    for letter, name in (("e", "encode"), ("i", "inner_losses"), ("m", "losses")):
        method = getattr(model, name)
        setattr(model, name, lambda *a, letter=letter, method=method: (calls.append(letter), method(*a))[1])
    train(model, RandomClips(recipe), recipe, tmp_path, console=QUIET)
    assert "".join(calls) == expected


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_every_inner_step_sees_the_weights_that_the_last_one_left(precision: str, tmp_path: Path) -> None:
    recipe = small_recipe(training={"precision": precision, "steps": 1, "club_learning_rate": 1e-2})
    model = build_model(recipe)
    inner, seen = model.inner_losses, []

    def watched(state: Any) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = inner(state)
        seen.append(float(torch.stack([*losses.values()]).sum().detach()))
        return losses

    model.inner_losses = watched  # type: ignore[method-assign]
    train(model, RandomClips(recipe), recipe, tmp_path, console=QUIET)
    assert seen == sorted(seen, reverse=True)
    assert len(set(seen)) == 5


def test_a_level_that_wakes_up_takes_first_steps_like_any_other(tmp_path: Path) -> None:
    recipe = small_recipe("hdcid", training={"steps": 12, "save_every": 1, "learning_rate": 1e-3})
    recipe = Recipe.parse({**recipe.model_dump(), "warm_start": {"steps": 10}})
    run(tmp_path, recipe)
    name = "model/second.temporal.audio.affine.weight"
    weights = [stored(tmp_path / f"step-{step:06d}")[name] for step in (1, 10, 11, 12)]
    assert torch.equal(weights[0], weights[1])
    # Adam's first step is as large as its learning rate, and no larger.
    assert 0 < (weights[2] - weights[1]).abs().max() <= 1.01e-3


def test_data_of_other_widths_are_told_of(tmp_path: Path) -> None:
    recipe, other = small_recipe(), small_recipe(model={"text_dim": 9})
    with pytest.raises(TrainingError, match="text is 5 features wide, text_dim is 9"):
        train(build_model(other), RandomClips(recipe), other, tmp_path, console=QUIET)


def test_a_full_disk_ends_a_run_with_a_sentence(tmp_path: Path) -> None:
    recipe = small_recipe(training={"steps": 6})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
    try:
        with pytest.raises(TrainingError, match=r"step 3 cannot be written .* is the disk full"):
            run(tmp_path, recipe)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_run_goes_on_from_its_latest_checkpoint(tmp_path: Path) -> None:
    run(tmp_path / "a", small_recipe(training={"steps": 3}))
    resumed = run(tmp_path / "a", small_recipe(), resume=True)
    assert_same(resumed, run(tmp_path / "b", small_recipe()))
    assert run(tmp_path / "a", small_recipe(), resume=True) == resumed


def test_seeds_decide_a_run(tmp_path: Path) -> None:
    same = [run(tmp_path / name, small_recipe(training={"steps": 2})) for name in "ab"]
    other = run(tmp_path / "c", small_recipe(training={"steps": 2, "seed": 1}))
    assert_same(*same)
    assert not torch.equal(*(next(load_model(run)[0].levels()).table() for run in (same[0], other)))


def test_an_epoch_is_a_permutation_and_epochs_and_seeds_differ() -> None:
    config = TrainingConfig(batch_size=8, seed=3)
    epochs = [torch.cat([sampled_indices(43, 5 * epoch + s, config) for s in range(5)]) for epoch in range(3)]
    for epoch in epochs:
        assert len(epoch) == len(epoch.unique()) == 40
        assert 0 <= epoch.min() <= epoch.max() < 43
    assert not torch.equal(epochs[0], epochs[1])
    assert torch.equal(sampled_indices(43, 7, config), sampled_indices(43, 7, config))
    assert not torch.equal(
        sampled_indices(43, 7, config), sampled_indices(43, 7, config.model_copy(update={"seed": 4}))
    )


def test_the_learning_rate_follows_its_schedule() -> None:
    constant = TrainingConfig(steps=10, learning_rate=2.0)
    cosine = TrainingConfig(steps=10, learning_rate=2.0, schedule="cosine")
    assert [learning_rate(step, constant) for step in (0, 9)] == [2.0, 2.0]
    assert learning_rate(0, cosine) == 2.0
    assert learning_rate(5, cosine) == pytest.approx(1.0)
    assert 0 < learning_rate(9, cosine) < 0.1


def test_training_lowers_the_loss_and_brings_modalities_together(tmp_path: Path) -> None:
    recipe = small_recipe(training={"steps": 120, "save_every": 120, "learning_rate": 5e-3})
    clips = RandomClips(recipe)
    # Four kinds of clip that all modalities tell apart.
    kinds = torch.arange(len(clips)) % 4
    for name, tensor in clips.tensors.items():
        if name != "text_mask":
            centres = 2 * torch.randn(4, tensor.shape[-1], generator=torch.Generator().manual_seed(len(name)))
            centres = centres[kinds].reshape(-1, *[1] * (tensor.dim() - 2), tensor.shape[-1])
            tensor.mul_(0.1).add_(centres)
    seed_everything(0)
    checkpoint = train(build_model(recipe), clips, recipe, tmp_path, console=QUIET)
    model, _, _ = load_model(checkpoint)
    batch = clips.batch(torch.arange(40))
    latents = {
        name: model.clip_latents(name, batch[name], batch["text_mask"] if name == "text" else None)
        for name in ("audio", "video", "text")
    }
    text = torch.nn.functional.normalize(latents["text"], dim=-1)
    for name in ("audio", "video"):
        similarity = torch.nn.functional.normalize(latents[name], dim=-1) @ text.T
        hit = kinds[similarity.argmax(1)] == kinds
        assert hit.float().mean() > 0.8


def test_a_weight_of_zero_is_logged_and_changes_the_result(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    recipe = small_recipe(training={"steps": 2}, losses={"weights": {"cpc": 0.0, "cmcm": 2.0}})
    run(tmp_path, recipe)
    events = EventAccumulator(str(tmp_path / "logs"))
    events.Reload()
    last = {name: events.Scalars(name)[-1].value for name in events.Tags()["scalars"]}
    losses = {
        n: v for n, v in last.items() if not n.startswith(("codebook/", "agreement/", "club_likelihood/"))
    }
    total = losses.pop("loss")
    assert losses["cpc"] > 0
    expected = sum({"cpc": 0.0, "cmcm": 2.0}.get(name, 1.0) * value for name, value in losses.items())
    assert total == pytest.approx(expected, rel=1e-4)
    assert len(events.Scalars("cpc")) == 2


def test_a_weight_for_a_loss_that_is_not_there_is_refused(tmp_path: Path) -> None:
    recipe = small_recipe(losses={"weights": {"clubb/audio": 1.0}})
    with pytest.raises(TrainingError, match=r"no loss 'clubb/audio'; known: club/audio, "):
        run(tmp_path, recipe)


class Spoilt(RandomClips):
    """Clips that turn bad from a given batch on."""

    def __init__(self, recipe: Recipe, name: str, value: float, good: int) -> None:
        super().__init__(recipe)
        self.name, self.value, self.good = name, value, good

    def batch(self, indices: Tensor) -> dict[str, Tensor]:
        batch = super().batch(indices)
        self.good -= 1
        if self.good < 0:
            batch[self.name] = torch.full_like(batch[self.name], self.value)
        return batch


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_last_good_checkpoint(tmp_path: Path) -> None:
    recipe = small_recipe()
    with pytest.raises(TrainingError) as raised:
        train(build_model(recipe), Spoilt(recipe, "audio", math.nan, good=4), recipe, tmp_path, console=QUIET)
    good = tmp_path / "step-000003"
    assert (
        f"step 5: the loss 'reconstruction/audio' is not finite; the last good checkpoint is '{good}'"
        in str(raised.value)
        or f"step 5: the loss 'club_likelihood/audio' is not finite; the last good checkpoint is '{good}'"
        in str(raised.value)
    )
    assert all(torch.isfinite(tensor).all() for tensor in stored(good).values())
    assert [folder.name for folder in tmp_path.glob("step-*")] == ["step-000003"]


def test_a_gradient_that_is_not_finite_never_reaches_the_weights(tmp_path: Path) -> None:
    recipe = small_recipe()
    model = build_model(recipe)
    model.get_parameter("fine.specific.audio.linear.bias").register_hook(lambda grad: grad * math.nan)
    with pytest.raises(
        TrainingError, match=r"step 1: the gradient of the encoder is not finite; nothing was saved"
    ):
        train(model, RandomClips(recipe), recipe, tmp_path, console=QUIET)
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


def test_a_run_that_is_there_is_not_mixed_with_a_new_one(tmp_path: Path) -> None:
    run(tmp_path, small_recipe())
    with pytest.raises(TrainingError, match=r"holds a run already: go on with --resume"):
        run(tmp_path, small_recipe())


def test_a_run_is_not_resumed_with_another_recipe(tmp_path: Path) -> None:
    run(tmp_path, small_recipe(training={"steps": 3}))
    with pytest.raises(TrainingError, match="was trained with another recipe"):
        run(tmp_path, small_recipe(training={"learning_rate": 1.0}), resume=True)


class Interrupted(RandomClips):
    """Clips whose second batch is asked for while somebody stops the process."""

    def __init__(self, recipe: Recipe, number: signal.Signals) -> None:
        super().__init__(recipe)
        self.number, self.asked = number, 0

    def batch(self, indices: Tensor) -> dict[str, Tensor]:
        self.asked += 1
        if self.asked == 2:
            os.kill(os.getpid(), self.number)
        return super().batch(indices)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_saves_its_step_and_goes_on_exactly(tmp_path: Path, number: signal.Signals) -> None:
    recipe, before = small_recipe(), signal.getsignal(signal.SIGINT)
    seed_everything(recipe.training.seed)
    with pytest.raises(TrainingError, match="stopped after step 2, which is saved"):
        train(build_model(recipe), Interrupted(recipe, number), recipe, tmp_path / "a", console=QUIET)
    assert signal.getsignal(signal.SIGINT) is before
    resumed = run(tmp_path / "a", recipe, resume=True)
    assert_same(resumed, run(tmp_path / "b", recipe))


def test_a_cosine_is_not_resumed_to_another_end(tmp_path: Path) -> None:
    cosine = {"schedule": "cosine"}
    run(tmp_path, small_recipe(training=cosine))
    with pytest.raises(TrainingError, match="another recipe"):
        run(tmp_path, small_recipe(training={**cosine, "steps": 9}), resume=True)


def test_logging_more_often_is_no_other_recipe(tmp_path: Path) -> None:
    run(tmp_path, small_recipe())
    longer = run(tmp_path, small_recipe(training={"steps": 7, "log_every": 2}), resume=True)
    assert longer.name == "step-000007"


def test_there_is_nothing_to_resume_in_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="holds no checkpoint"):
        run(tmp_path, small_recipe(), resume=True)


def test_too_few_clips_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="40 clips do not fill a batch of 41"):
        run(tmp_path, small_recipe(training={"batch_size": 41}))


def test_files_of_the_data_travel_with_every_checkpoint(tmp_path: Path) -> None:
    run(tmp_path, small_recipe(), extra_files={"tokenizer.json": "{}"})
    assert [(tmp_path / f"step-00000{n}" / "tokenizer.json").read_text() for n in (3, 6)] == ["{}", "{}"]


def test_a_run_is_not_resumed_on_other_data(tmp_path: Path) -> None:
    recipe = small_recipe(training={"steps": 3})
    run(tmp_path, recipe, extra_files={"data.json": "old"})
    with pytest.raises(TrainingError, match=r"the data are others .*: their data\.json is not that"):
        run(tmp_path, small_recipe(), resume=True, extra_files={"data.json": "new"})
    run(tmp_path, small_recipe(), resume=True, extra_files={"data.json": "old", "more.json": ""})


def test_a_codebook_that_stays_collapsed_is_told_of(tmp_path: Path) -> None:
    written = io.StringIO()
    recipe = small_recipe(
        codebook={"start": "uniform", "reset": "none"},
        training={"steps": 100, "save_every": 100, "batch_size": 2},
    )
    model = build_model(recipe)
    # One code in the midst of all vectors, the others far away.
    model.get_buffer("quantizers.0.codebook.sums")[1:] = 1e6
    train(model, RandomClips(recipe), recipe, tmp_path, console=Console(file=written, width=200))
    assert "step 100: the codebook has collapsed: perplexity below 2 for 100 steps" in written.getvalue()


def test_inner_steps_come_first_and_are_not_clipped(tmp_path: Path) -> None:
    recipe = small_recipe(training={"steps": 1, "clip_norm": 1e-12})
    torch.manual_seed(0)
    model = build_model(recipe)
    calls: list[str] = []
    inner, main = model.inner_losses, model.losses
    model.inner_losses = lambda state: (calls.append("inner"), inner(state))[1]  # type: ignore[method-assign,func-returns-value]
    model.losses = lambda *state: (calls.append("main"), main(*state))[1]  # type: ignore[method-assign,func-returns-value]
    norms: list[float] = []
    bias = model.get_parameter("fine.club.audio.mean.6.bias")
    bias.register_post_accumulate_grad_hook(lambda p: norms.append(float(p.grad.norm())))
    train(model, RandomClips(recipe), recipe, tmp_path, console=QUIET)
    assert calls == ["inner"] * 5 + ["main"]
    assert len(norms) == 5
    # Adam's step is as large as its learning rate only where the gradient is well above its epsilon.
    assert float(bias.grad.norm()) > 1e-3
