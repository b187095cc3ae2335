"""Random weights by the names and shapes of the public checkpoints, written down here apart from the code."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

VGG19_CONVOLUTIONS = {
    0: (3, 64), 2: (64, 64),
    5: (64, 128), 7: (128, 128),
    10: (128, 256), 12: (256, 256), 14: (256, 256), 16: (256, 256),
    19: (256, 512), 21: (512, 512), 23: (512, 512), 25: (512, 512),
    28: (512, 512), 30: (512, 512), 32: (512, 512), 34: (512, 512),
}  # fmt: skip
VGG19_POOLS = (4, 9, 18, 27, 36)
VGG19_CLASSIFIER = {0: (25_088, 4096), 3: (4096, 4096), 6: (4096, 1000)}

VGGISH_CONVOLUTIONS = {0: (1, 64), 3: (64, 128), 6: (128, 256), 8: (256, 256), 11: (256, 512), 13: (512, 512)}
VGGISH_POOLS = (2, 5, 10, 15)
VGGISH_EMBEDDINGS = {0: (12_288, 4096), 2: (4096, 4096), 4: (4096, 128)}

BERT_PIECES = (
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "the", "dog", "bark", "##s", "##ing", "loud", "##ly", "train",
    "passes", ",", "!", "at", "night", "in", "rain", "and", "wind", "far", "away", "from", "here", "bell", "old",
)  # fmt: skip


def vgg19_tensors(seed: int = 0) -> dict[str, Tensor]:
    """`features.N.weight` and `features.N.bias` of VGG19, of about unit gain a layer."""
    return _convolutions(VGG19_CONVOLUTIONS, seed)


def vgg19_classifier() -> dict[str, Tensor]:
    """The rest of torchvision's file, without the memory for it."""
    tensors: dict[str, Tensor] = {}
    for layer, (inputs, outputs) in VGG19_CLASSIFIER.items():
        tensors[f"classifier.{layer}.weight"] = torch.zeros(1, 1).expand(outputs, inputs)
        tensors[f"classifier.{layer}.bias"] = torch.zeros(1).expand(outputs)
    return tensors


def vggish_tensors(seed: int = 0) -> dict[str, Tensor]:
    """The tensors of VGGish's torch port."""
    tensors = _convolutions(VGGISH_CONVOLUTIONS, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    for layer, (inputs, outputs) in VGGISH_EMBEDDINGS.items():
        weight = torch.empty(outputs, inputs).uniform_(-1, 1, generator=generator)
        tensors[f"embeddings.{layer}.weight"] = weight * (6 / inputs) ** 0.5
        tensors[f"embeddings.{layer}.bias"] = torch.randn(outputs, generator=generator) * 0.1
    return tensors


def _convolutions(table: dict[int, tuple[int, int]], seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}
    for layer, (inputs, outputs) in table.items():
        gain = (2 / (9 * inputs)) ** 0.5
        tensors[f"features.{layer}.weight"] = torch.randn(outputs, inputs, 3, 3, generator=generator) * gain
        tensors[f"features.{layer}.bias"] = torch.randn(outputs, generator=generator) * 0.1
    return tensors


def write_bert(folder: Path, positions: int = 40, kind: str = "BertModel", width: int = 24) -> Path:
    """A BERT of two small layers with random weights, in the files that `save_pretrained` writes."""
    import transformers

    config = transformers.BertConfig(
        vocab_size=len(BERT_PIECES),
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=positions,
    )
    torch.manual_seed(0)
    transformers.utils.logging.disable_progress_bar()
    getattr(transformers, kind)(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(BERT_PIECES) + "\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": True})
    )
    return folder
