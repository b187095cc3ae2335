"""BERT through transformers: the words of a text, each in its context (Devlin et al., 2019).

B batch, S word slots, L tokens, D hidden width.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from tessera.bundle import TextSpec
from tessera.errors import TrainingError
from training.backbones.backbone import Backbone

MODEL = "model.safetensors"
_FILES = ("config.json", MODEL, "tokenizer.json", "tokenizer_config.json", "vocab.txt")
_HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


class Bert(Backbone[TextSpec]):
    """The last hidden layer of a frozen BERT, averaged over the tokens of each word.

    [CLS] and [SEP] are put around the tokens of a window and dropped from what comes out. A window of more tokens
    than the model has positions for (510 and those two) is cut: what lies behind has no say, and a word of it is zeros.
    """

    def __init__(self, model: nn.Module, width: int, positions: int, begin: int, end: int) -> None:
        """`model` has `width` channels and `positions` tokens at most; `begin` and `end` are [CLS] and [SEP]."""
        super().__init__()
        self.spec = TextSpec(backbone="bert", feature_dim=width)
        self.model = model
        self.most_tokens = positions - 2
        self.begin: Tensor
        self.end: Tensor
        self.register_buffer("begin", torch.tensor([[begin]]))
        self.register_buffer("end", torch.tensor([[end]]))
        self.requires_grad_(False)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """From a folder of `save_pretrained` or of the hub: `config.json`, `model.safetensors` and a tokeniser.

        Raises:
            TrainingError: one of them is missing or damaged, or the model is no BERT.
        """
        tokenizer, model = _tokenizer(folder), _model(folder)
        config: Any = model.config
        return cls(
            model.eval(),
            config.hidden_size,
            config.max_position_embeddings,
            tokenizer.cls_token_id,
            tokenizer.sep_token_id,
        )

    def forward(self, input_ids: Tensor, slots: Tensor) -> Tensor:
        """ids i64 [B, L] without special tokens and slots f32 [B, S, L] -> [B, S, D]."""
        batch = input_ids.shape[0]
        input_ids, slots = input_ids[:, : self.most_tokens], slots[:, :, : self.most_tokens]
        tokens = torch.cat([self.begin.expand(batch, 1), input_ids, self.end.expand(batch, 1)], dim=1)
        hidden_BLD: Tensor = self.model(
            input_ids=tokens, attention_mask=torch.ones_like(tokens)
        ).last_hidden_state
        return slots @ hidden_BLD[:, 1:-1]


def bert_tokenizer(folder: Path) -> str:
    """The tokeniser of a BERT as `tokenizer.json`, without padding and truncation of its own.

    Raises:
        TrainingError: there is none in the folder.
    """
    pieces = _tokenizer(folder).backend_tokenizer
    pieces.no_padding()
    pieces.no_truncation()
    return str(pieces.to_str())


def fetch_bert(source: str) -> Path:
    """The folder of a BERT: `source` itself, or what the hub has under that name, fetched once and kept.

    Raises:
        TrainingError: there is no such folder, and no such model on the hub or no way to it.
    """
    if Path(source).is_dir():
        return Path(source)
    if not _HUB_NAME.fullmatch(source):
        raise TrainingError(f"there is no folder '{source}', and no model on the hub can have that name")
    hub: Any = importlib.import_module("huggingface_hub")
    verbosity = hub.logging.get_verbosity()
    hub.logging.set_verbosity_error()
    try:
        return Path(hub.snapshot_download(source, allow_patterns=list(_FILES)))
    except Exception:  # Whatever goes wrong on the way has an error of its own.
        raise TrainingError(
            f"'{source}' is no folder, and no model of that name could be fetched from the hub; without a "
            "connection, give the folder of a model that was fetched before"
        ) from None
    finally:
        hub.logging.set_verbosity(verbosity)


def bert_files(folder: Path) -> dict[str, Path]:
    """The files that decide what a BERT says, by name; that of its tensors as `weights`."""
    paths = {"weights" if name == MODEL else name: folder / name for name in _FILES}
    return {name: path for name, path in paths.items() if path.is_file()}


def _model(folder: Path) -> nn.Module:
    if not (folder / MODEL).is_file():
        raise TrainingError(f"'{folder}' has no {MODEL}; weights of other formats are not read")
    with _transformers() as transformers:
        config = _config(transformers, folder)
        try:
            model, found = transformers.BertModel.from_pretrained(
                folder,
                config=config,
                add_pooling_layer=False,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
                dtype=torch.float32,
            )
        except Exception:  # The library raises whatever its parts do.
            raise TrainingError(f"'{folder / MODEL}' is damaged, or not of its config.json") from None
    if missing := sorted(found["missing_keys"]):
        raise TrainingError(
            f"'{folder / MODEL}' is no BERT: it lacks '{missing[0]}' and {len(missing) - 1} more"
        )
    loaded: nn.Module = model
    return loaded


def _config(transformers: Any, folder: Path) -> Any:
    try:
        config = transformers.AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except Exception:  # As above.
        raise TrainingError(f"'{folder}' has no config.json of a model that transformers knows") from None
    if config.model_type != "bert":
        raise TrainingError(f"'{folder}' is a model of type '{config.model_type}', expected 'bert'")
    return config


def _tokenizer(folder: Path) -> Any:
    fault = (
        f"'{folder}' has no tokeniser of a BERT: expected tokenizer.json or vocab.txt with [CLS] and [SEP]"
    )
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.txt")):
        # Without either the library makes up a tokeniser that knows no word.
        raise TrainingError(fault)
    with _transformers() as transformers:
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, use_fast=True
            )
            special = tokenizer.cls_token_id, tokenizer.sep_token_id
        except Exception:  # As above.
            raise TrainingError(fault) from None
    if None in special or not hasattr(tokenizer, "backend_tokenizer"):
        raise TrainingError(fault)
    return tokenizer


@contextmanager
def _transformers() -> Iterator[Any]:
    """The library, which takes seconds to import, with its bars and its reports on unused weights kept quiet."""
    transformers: Any = importlib.import_module("transformers")
    logging = transformers.utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield transformers
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
