"""Use of a codebook, agreement of modalities, and the colours of the activation picture."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from tessera.windows import Modality
from training.evaluation.activation import activation_colours, activation_figure
from training.evaluation.coder import Coded
from training.evaluation.health import code_agreement, code_use, codebook_health

SIZES = (6, 4)


def random_codes(seed: int) -> dict[Modality, Coded]:
    generator = torch.Generator().manual_seed(seed)
    coded: dict[Modality, Coded] = {}
    for modality in ("audio", "video", "text"):
        codes = torch.stack([torch.randint(0, size, (9, 5), generator=generator) for size in SIZES], dim=-1)
        length = torch.randint(1, 6, (9, 1), generator=generator)
        coded[modality] = Coded(codes, torch.arange(5) < length, codes.float())  # type: ignore[index]
    return coded


def said(coded: Coded, clip: int, place: int = 0) -> list[int]:
    codes: list[int] = coded.codes[clip, coded.real[clip], place].tolist()
    return codes


@given(st.integers(0, 2**32 - 1))
def test_health_counts_what_is_said(seed: int) -> None:
    coded = random_codes(seed)
    health = codebook_health(coded, SIZES)
    for modality, one in coded.items():
        for place, size in enumerate(SIZES):
            counts = Counter(code for clip in range(9) for code in said(one, clip, place))
            shares = [count / counts.total() for count in counts.values()]
            entropy = -sum(share * np.log(share) for share in shares)
            found = health[modality if place == 0 else f"{modality}, level 2"]
            expected = {"size": size, "used": len(counts), "dead": size - len(counts)}
            assert found == pytest.approx({**expected, "perplexity": np.exp(entropy)})


@given(st.integers(0, 2**32 - 1))
def test_agreement_is_of_the_commonest_code(seed: int) -> None:
    coded = random_codes(seed)
    commonest = {
        m: [min(Counter(said(one, c)).items(), key=lambda i: (-i[1], i[0]))[0] for c in range(9)]
        for m, one in coded.items()
    }
    for (left, right), name in {
        ("audio", "video"): "audio and video",
        ("audio", "text"): "audio and text",
        ("video", "text"): "video and text",
    }.items():
        same = [a == b for a, b in zip(commonest[left], commonest[right], strict=True)]  # type: ignore[index]
        assert code_agreement(coded)[name] == pytest.approx(np.mean(same))


def test_colours_say_who_and_brightness_says_how_often() -> None:
    use: dict[Modality, torch.Tensor] = {
        "audio": torch.tensor([90, 0, 10, 0]),
        "video": torch.tensor([0, 9, 1, 0]),
        "text": torch.tensor([0, 0, 100, 0]),
    }
    colours = activation_colours(use)
    assert colours.min() >= 0
    assert colours.max() <= 1
    assert colours[0, 0] > 0
    assert colours[0, 1:].tolist() == [0, 0]
    assert colours[1, 1] > 0
    # Audio and video say the third code equally often, counted by their own segments.
    assert colours[2, 0] == pytest.approx(colours[2, 1])
    assert colours[2, 2] == pytest.approx(10 * colours[2, 0])
    assert colours[2].max() > colours[0].max()
    assert 0 < colours[3].max() < 0.2


def test_the_picture_has_a_grid_a_level() -> None:
    use = code_use(random_codes(0), SIZES)
    figure = activation_figure({str(place): {m: use[m][place] for m in use} for place in (0, 1)}, "codes")
    assert isinstance(figure, Figure)
    assert len(figure.axes) == 2
    assert "6 codes" in figure.axes[0].get_title()
    pixels = np.asarray(figure.axes[0].images[0].get_array())
    assert pixels.shape == (2, 3, 4)
    assert pixels[..., 3].sum() == 6
