"""The heads as they are described, their losses against slow formulas, and that they learn what can be learnt."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from training.evaluation.fitting import Fitting, fit_head, scores_of, seeded
from training.evaluation.heads import ClassLoss, ClipHead, EventLoss, SegmentHead


@pytest.mark.parametrize("head", [ClipHead(6, 3), SegmentHead(6, 3)])
def test_a_head_has_the_released_names(head: nn.Module) -> None:
    assert {name: tuple(tensor.shape) for name, tensor in head.state_dict().items()} == {
        "linear.weight": (6, 6),
        "linear.bias": (6,),
        "event_classifier.weight": (3, 6),
        "event_classifier.bias": (3,),
    }


def test_a_segment_head_is_one_affine_map_of_each_segment() -> None:
    head, x = SegmentHead(6, 3).double(), torch.randn(2, 5, 6, dtype=torch.float64)
    weight = head.event_classifier.weight @ head.linear.weight
    bias = head.event_classifier.weight @ head.linear.bias + head.event_classifier.bias
    torch.testing.assert_close(head(x), x @ weight.T + bias)


def test_a_clip_head_takes_the_maximum_between_its_maps() -> None:
    head, x = ClipHead(6, 3).double(), torch.randn(2, 5, 6, dtype=torch.float64)
    for clip, scores in zip(x, head(x), strict=True):
        strongest = torch.stack([head.linear(segment) for segment in clip]).max(dim=0).values
        torch.testing.assert_close(scores, head.event_classifier(strongest))


def test_the_event_loss_is_the_slow_formula() -> None:
    scores, cells = torch.randn(2, 3, 4, dtype=torch.float64), torch.rand(2, 3, 4) < 0.4
    loss = EventLoss(4).double()
    with torch.no_grad():
        loss.alpha += torch.arange(4) / 10
    cross, exp_log = 0.0, 0.0
    for scores_C, cells_C in zip(scores.flatten(0, 1), cells.flatten(0, 1), strict=True):
        total = sum(math.exp(float(s)) for s in scores_C)
        for index, (score, on) in enumerate(zip(scores_C.tolist(), cells_C.tolist(), strict=True)):
            probability = 1 / (1 + math.exp(-score))
            cross -= math.log(probability if on else 1 - probability) / scores.numel()
            exp_log -= on * math.exp(-0.1 - index / 10) * math.log(math.exp(score) / total) / 6
    assert loss(scores, cells).item() == pytest.approx(cross + exp_log)


def test_the_weights_of_classes_only_fall() -> None:
    loss = EventLoss(4)
    loss(torch.randn(2, 3, 4), torch.ones(2, 3, 4, dtype=torch.bool)).backward()
    assert loss.alpha.grad is not None
    assert (loss.alpha.grad < 0).all()
    assert torch.equal(loss.alpha.detach(), torch.full((4,), 0.1))


def told(clips: int = 200, classes: int = 4) -> tuple[Tensor, Tensor]:
    """Vectors that say the class of a clip in one of their seconds, and the classes."""
    generator = torch.Generator().manual_seed(0)
    classes_N = torch.arange(clips) % classes
    vectors = 0.1 * torch.randn(clips, 5, 8, generator=generator)
    second = torch.randint(0, 5, (clips,), generator=generator)
    vectors[torch.arange(clips), second, classes_N] += 2
    return vectors, classes_N


def fitted(
    seed: int, precision: torch.dtype = torch.float32, epochs: int = 40
) -> tuple[nn.Module, list[int]]:
    vectors, classes = told()
    with seeded(seed):
        head = ClipHead(8, 4)
    seen: list[int] = []

    def of_epoch(epoch: int) -> Tensor:
        seen.append(epoch)
        return vectors

    fit_head(head, ClassLoss(), of_epoch, classes, Fitting(epochs, precision, learning_rate=4e-3), seed)
    return head, seen


def test_what_the_codes_say_is_learnt() -> None:
    vectors, classes = told()
    head, seen = fitted(0)
    assert seen == list(range(40))
    assert not head.training
    assert (scores_of(head, vectors).argmax(dim=1) == classes).all()


def test_a_seed_decides_everything_and_leaves_other_draws_alone() -> None:
    torch.manual_seed(5)
    before = torch.rand(1)
    torch.manual_seed(5)
    heads = [fitted(seed, epochs=2)[0] for seed in (1, 1, 2)]
    assert torch.equal(torch.rand(1), before)
    first, same, other = (head.state_dict()["linear.weight"] for head in heads)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_the_released_precision_is_that_of_head_and_loss() -> None:
    head, _ = fitted(0, torch.float64, epochs=1)
    assert all(parameter.dtype == torch.float64 for parameter in head.parameters())
    assert scores_of(head, told()[0]).dtype == torch.float64


def test_the_rate_halves_at_its_milestones() -> None:
    """With a gradient of constant sign Adam moves by its rate: what is left after an epoch says the rate of it."""

    class Constant(nn.Module):
        def forward(self, scores: Tensor, targets: Tensor) -> Tensor:
            return scores.mean()

    class Bias(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(()))

        def forward(self, vectors: Tensor) -> Tensor:
            return vectors.mean() * 0 + self.bias

    head, values = Bias(), [0.0]
    fitting = Fitting(epochs=31, precision=torch.float64)
    fit_head(
        head,
        Constant(),
        lambda epoch: torch.zeros(10, 1, 1),
        torch.zeros(10),
        fitting,
        0,
        after_epoch=lambda: values.append(head.bias.item()),
    )
    moved = [before - after for before, after in itertools.pairwise(values)]
    expected = [4e-4 * 0.5 ** (epoch // 10) for epoch in range(31)]
    assert moved == pytest.approx(expected, rel=1e-4)
