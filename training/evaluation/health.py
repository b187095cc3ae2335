"""What became of a codebook: how much of it each modality uses, and how often modalities agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from tessera.windows import Modality
from training.evaluation.coder import Coded
from training.models.agreement import agreement_shares
from training.quantizers.usage import code_counts, perplexity

Health = dict[str, dict[str, float]]


def code_use(coded: Mapping[Modality, Coded], sizes: Sequence[int]) -> dict[Modality, list[Tensor]]:
    """How often each modality says each code, i64 [K] for each of L places."""
    return {
        m: [code_counts(one.codes[one.real][:, [place]], size)[0] for place, size in enumerate(sizes)]
        for m, one in coded.items()
    }


def codebook_health(coded: Mapping[Modality, Coded], sizes: Sequence[int]) -> Health:
    """Size of the codebook, codes in use, codes that are dead and perplexity, by modality and level."""
    use = code_use(coded, sizes)
    return {
        m if place == 0 else f"{m}, level {place + 1}": _figures(counts[place])
        for place in range(len(sizes))
        for m, counts in use.items()
    }


def code_agreement(coded: Mapping[Modality, Coded]) -> dict[str, float]:
    """Share of the clips whose most frequent first-level code is the same in two modalities.

    Row i is the same clip in every modality. Alone it misleads: codes that agree may agree on what is no event.
    """
    shares = agreement_shares(
        {m: one.codes for m, one in coded.items()}, {m: one.real for m, one in coded.items()}
    )
    return {f"{left} and {right}": share for (left, right), share in shares.items()}


def _figures(counts: Tensor) -> dict[str, float]:
    used = int((counts > 0).sum())
    return {
        "size": len(counts),
        "used": used,
        "dead": len(counts) - used,
        "perplexity": float(perplexity(counts)),
    }
