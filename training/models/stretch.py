"""Random parts of clips: training on one second and on one word, so that inference on them is what was trained."""

from __future__ import annotations

import torch
from torch import Tensor

from training.distributed import own_rows, world_size


def random_stretch(crop: tuple[int, int] | None, time: int, generator: torch.Generator) -> slice:
    """Which of `time` segments a step sees: `crop[0]` to `crop[1]` in a row, the same of all clips; None: all."""
    if crop is None:
        return slice(None)
    shortest, longest = min(crop[0], time), min(crop[1], time)
    length = int(torch.randint(shortest, longest + 1, (), generator=generator))
    start = int(torch.randint(0, time - length + 1, (), generator=generator))
    return slice(start, start + length)


def random_words(mask_BS: Tensor, generator: torch.Generator) -> Tensor:
    """True for some words of each text, at least one: for all of them in half of the texts, bool [B, S]."""
    slots = mask_BS.shape[1]
    draws = _uniform(mask_BS, slots, generator).masked_fill(~mask_BS, -1.0)
    whole = _uniform(mask_BS, 1, generator) < 0.5
    threshold = _uniform(mask_BS, 1, generator).masked_fill(whole, 0.0)
    return mask_BS & (draws >= torch.minimum(threshold, draws.amax(dim=1, keepdim=True)))


def random_phrase(words_BSC: Tensor, mask_BS: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Consecutive words of each text, moved to the first slots, and their mask; all words in half of the texts."""
    words_B1 = mask_BS.sum(dim=1, keepdim=True)
    whole = _uniform(mask_BS, 1, generator) < 0.5
    length_B1 = torch.where(whole, words_B1, 1 + (_uniform(mask_BS, 1, generator) * words_B1).long())
    length_B1 = torch.minimum(length_B1, words_B1)
    start_B1 = (_uniform(mask_BS, 1, generator) * (words_B1 - length_B1 + 1)).long()
    slot_BS = torch.arange(mask_BS.shape[1], device=mask_BS.device).expand_as(mask_BS)
    index_BS = (start_B1 + slot_BS).clamp(max=mask_BS.shape[1] - 1)
    phrase_BSC = words_BSC.gather(1, index_BS.unsqueeze(-1).expand_as(words_BSC))
    kept_BS = slot_BS < length_B1
    return phrase_BSC * kept_BS.unsqueeze(-1), kept_BS


def _uniform(like_BS: Tensor, width: int, generator: torch.Generator) -> Tensor:
    """Numbers in [0, 1) [B, width] for the clips of this process, drawn for all clips of the batch."""
    whole = torch.rand(len(like_BS) * world_size(), width, generator=generator)
    return own_rows(whole).to(like_BS.device)
