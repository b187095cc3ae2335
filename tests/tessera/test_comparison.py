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


def test_a_code_that_differs_is_counted_with_the_expected_margin() -> None:
    tally = Tally()
    tally.add(outputs([[1], [2], [3]], 0.25), outputs([[1], [2], [4]], 9.0, latent=0.5))
    found = tally.result()
    assert (found.codes, found.mismatches, found.largest_margin, found.margins) == (3, 1, 0.25, (0.25,))
    assert found.agreement == pytest.approx(2 / 3)
    assert found.max_abs_embedding == 0.0
    assert found.max_abs_latent == 0.5


def test_residual_codes_count_as_one_by_their_first_difference() -> None:
    expected = outputs([[1, 2], [3, 4]], 0.5)
    expected["margins"][0, 0] = (1e-4, 7.0)
    tally = Tally(depth=2)
    tally.add(expected, outputs([[9, 8], [3, 4]], 0.5))
    assert tally.result().codes == 2
    assert tally.result().margins == (1e-4,)


def test_levels_of_their_own_count_apart() -> None:
    tally = Tally()
    tally.add(outputs([[1, 2], [3, 4]], 0.5), outputs([[9, 8], [3, 4]], 0.5))
    assert (tally.result().codes, tally.result().mismatches) == (4, 2)


def test_what_is_no_number_differs_without_end() -> None:
    tally = Tally()
    tally.add(outputs([[1]], 0.5), outputs([[1]], 0.5, latent=float("nan")))
    assert tally.result().max_abs_latent == float("inf")


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="expected"):
        Tally().add(outputs([[1]], 0.5), outputs([[1], [2]], 0.5))
