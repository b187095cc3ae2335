"""What counts as a difference: codes with their margins, embeddings where codes agree, latents everywhere."""

from __future__ import annotations

import numpy as np
import pytest

from tessera.comparison import Tally


def outputs(codes: list[list[int]], margin: float, latent: float = 0.0) -> dict[str, np.ndarray]:
    """Codes [T, L] of one window; embeddings are the codes themselves."""
    index = np.array(codes)[None]
    margins = np.full(index.shape, margin, np.float32)
    return {
        "codes": index,
        "margins": margins,
        "embeddings": index.astype(np.float32),
        "latents": np.full(index.shape, latent, np.float32),
    }


def test_a_code_that_differs_is_counted_with_the_larger_margin_of_both() -> None:
    for expected, actual in ((0.25, 0.125), (0.125, 0.25)):
        tally = Tally()
        tally.add(outputs([[1], [2], [3]], expected), outputs([[1], [2], [4]], actual, latent=0.5))
        found = tally.result()
        assert (found.codes, found.mismatches, found.largest_margin, found.margins) == (3, 1, 0.25, (0.25,))
        assert found.agreement == pytest.approx(2 / 3)
        assert found.distinct == 3
        assert found.max_abs_margin == 0.125
        assert found.max_abs_embedding == 0.0
        assert found.max_abs_latent == 0.5
        assert not found.parts


def test_residual_codes_count_as_one_by_their_first_difference() -> None:
    expected, actual = outputs([[1, 2], [3, 4]], 0.5), outputs([[9, 8], [3, 4]], 0.5)
    expected["margins"][0, 0], actual["margins"][0, 0] = (1e-4, 7.0), (2e-4, 9.0)
    tally = Tally(depth=2)
    tally.add(expected, actual)
    assert tally.result().codes == 2
    assert tally.result().margins == (2e-4,)
    assert tally.result().max_abs_margin == 0.0


def test_levels_and_clips_count_apart() -> None:
    """Half of all clip codes are a thousandth of all codes: no number for the whole would show them."""
    expected, actual = outputs([[1, 2]] * 20, 0.5), outputs([[1, 8]] + [[1, 2]] * 19, 0.5)
    clips = {"clip_margin": 0.5, "clip_embedding": 0.0, "clip_latent": 0.0}
    for sides, code in ((expected, 7), (actual, 6)):
        sides["clip_code"] = np.array([[3, code]])
        sides |= {name: np.full((1, 2), value, np.float32) for name, value in clips.items()}
    tally = Tally()
    tally.add(expected, actual)
    found = tally.result()
    counts = {name: (part.mismatches, part.codes, part.distinct) for name, part in found.parts.items()}
    assert counts == {
        "segments, level 1": (0, 20, 1),
        "segments, level 2": (1, 20, 1),
        "clips, level 1": (0, 1, 1),
        "clips, level 2": (1, 1, 1),
    }
    assert (found.mismatches, found.codes, found.agreement) == (2, 42, 0.0)


def test_what_is_no_number_differs_without_end() -> None:
    tally = Tally()
    tally.add(outputs([[1]], 0.5), outputs([[1]], 0.5, latent=float("nan")))
    assert tally.result().max_abs_latent == float("inf")


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="expected"):
        Tally().add(outputs([[1]], 0.5), outputs([[1], [2]], 0.5))
