"""Released files of random weights: every key and shape that the authors' code saves, in float64.

The tables are those of the authors' classes, written down here apart from the importer.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]
CODES = 400

DCID = ("audio", "video", "text")
KINDS = ("dcid", "dcid-av", "dcid-at", "micu", "hdcid", "fcid")
MODALITIES: dict[str, tuple[str, ...]] = {
    kind: {"dcid-av": ("audio", "video"), "dcid-at": ("audio", "text")}.get(kind, DCID) for kind in KINDS
}


def encoder_shapes(kind: str) -> Shapes:
    """`Encoder_parameters` of a kind of file."""
    if kind == "fcid":
        return _fcid_encoder()
    shapes: Shapes = {}
    for modality in MODALITIES[kind]:
        if modality == "video":
            shapes |= _video_specific("Video_encoder") | _video_pooling("video_semantic_encoder")
        else:
            width = {"audio": 128, "text": 256}[modality]
            shapes |= _linear(f"{modality.capitalize()}_encoder.{modality}_linear", width, 256)
        width = {"audio": 128, "video": 512, "text": 256}[modality]
        shapes |= _attention(f"{modality}_self_att", width, layers=2)
        if kind == "hdcid":
            width = {"audio": 256, "video": 512, "text": 256}[modality]
            shapes |= _linear(f"{modality.capitalize()}_encoder_2.input_linear", width, width)
            shapes |= _attention(f"{modality}_self_att_2", width, layers=2)
    return shapes | _codebook("Cross_quantizer", (2,) if kind == "hdcid" else ())


def text_lstm_shapes() -> Shapes:
    """`Text_ar_lstm_parameters`: two layers, two directions."""
    return {
        f"{name}_l{layer}{direction}": shape
        for layer, width in enumerate((768, 256))
        for direction in ("", "_reverse")
        for name, shape in _lstm_cell(width, 128).items()
    }


def decoder_shapes(modalities: tuple[str, ...]) -> Shapes:
    """`Decoder_parameters` of DCID."""
    shapes: Shapes = {}
    for modality in modalities:
        shapes |= _linear(f"{modality}_semantic_decoder.linear", 256, 256)
        shapes |= _linear(f"{modality}_semantic_decoder.event_classifier", 256, 141)
        shapes |= _linear(f"{modality.capitalize()}_decoder.{modality}_linear", 256, 256)
        if modality == "video":
            shapes |= _video_decoder("Video_decoder.inverse_conv_block")
        else:
            width = {"audio": 128, "text": 256}[modality]
            shapes |= _linear(f"{modality.capitalize()}_decoder.{modality}_rec", 512, width)
    return shapes


def cpc_shapes(modalities: tuple[str, ...]) -> Shapes:
    """`CPC_parameters` of DCID."""
    shapes: Shapes = {}
    for modality in modalities:
        for layer in (0, 1):
            cell = _lstm_cell(256, 256)
            shapes |= {f"{modality}_ar_lstm.{name}_l{layer}": shape for name, shape in cell.items()}
        shapes |= _linear(f"{modality}_predictors.0", 256, 256)
    return shapes


def club_shapes(modality: str) -> Shapes:
    """`*_mi_net_parameters` of DCID."""
    shapes: Shapes = {}
    widths = (256, 128, 128, 128, 512 if modality == "video" else 256)
    for net in ("p_mu", "p_logvar"):
        for index in range(4):
            shapes |= _linear(f"{net}.{2 * index}", widths[index], widths[index + 1])
    return shapes


def weights(shapes: Shapes, seed: int = 0) -> dict[str, Tensor]:
    """Random tensors of those shapes, in the way that layers of such inputs keep their scale."""
    return {name: _values(name, shape, seed) for name, shape in shapes.items()}


def released(kind: str, seed: int = 0, *, complete: bool = False) -> dict[str, Any]:
    """A file as it is saved; `complete` is DCID's with decoders, CPC, CLUB nets and optimisers."""
    modalities = MODALITIES[kind]
    file: dict[str, Any] = {"Encoder_parameters": weights(encoder_shapes(kind), seed), "epoch": 3}
    if kind != "hdcid":
        file["total_step"] = 2000
    if "text" in modalities and kind != "fcid":
        file["Text_ar_lstm_parameters"] = weights(text_lstm_shapes(), seed)
    if complete:
        file["Decoder_parameters"] = weights(decoder_shapes(modalities), seed)
        file["CPC_parameters"] = weights(cpc_shapes(modalities), seed)
        for modality in modalities:
            file[f"{modality.capitalize()}_mi_net_parameters"] = weights(club_shapes(modality), seed)
        file |= {"optimizer": _optimizer(), "optimizer_audio_mi_net": _optimizer()}
    return file


def write(path: Path, file: Mapping[str, Any]) -> Path:
    """Save it as the authors do."""
    torch.save(dict(file), path)
    return path


def count(shapes: Shapes) -> int:
    """How many numbers they hold together."""
    return sum(math.prod(shape) for shape in shapes.values())


def _fcid_encoder() -> Shapes:
    shapes = _video_specific("v_spe_encoder") | _video_pooling("v_gen_encoder")
    shapes |= _linear("a_spe_encoder.audio_linear", 128, 256) | _codebook("Cross_quantizer_coarse", ())
    for letter, width in (("v", 512), ("a", 128), ("t", 768)):
        shapes |= _attention(f"{letter}_self_att", width, layers=1)
    for branch in ("va", "t"):
        shapes |= _linear(f"{branch}2vat.linear", 256, 256)
        shapes |= _linear(f"{branch}_gen_encoder.input_linear", 256, 256)
        shapes |= _linear(f"{branch}_spe_encoder.input_linear", 256, 256)
    return shapes


def _linear(name: str, inputs: int, outputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _convolution(name: str, inputs: int, outputs: int, size: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs, size, size), f"{name}.bias": (outputs,)}


def _residual(name: str, channels: int) -> Shapes:
    block = f"{name}.stack.0.res_block"
    return {f"{block}.1.weight": (channels, channels, 3, 3), f"{block}.3.weight": (channels, channels, 1, 1)}


def _video_specific(name: str) -> Shapes:
    return {
        **_convolution(f"{name}.conv_stack.0", 512, 1024, 3),
        **_convolution(f"{name}.conv_stack.2", 1024, 2048, 3),
        **_convolution(f"{name}.conv_stack.4", 2048, 2048, 1),
        **_residual(f"{name}.conv_stack.5", 2048),
        **_linear(f"{name}.feed_forward.0", 2048, 1024),
        **_linear(f"{name}.feed_forward.2", 1024, 512),
    }


def _video_decoder(name: str) -> Shapes:
    transposed: Shapes = {}
    for index, inputs, outputs, size in ((0, 2304, 1024, 3), (2, 1024, 512, 3), (4, 512, 512, 1)):
        transposed[f"{name}.{index}.weight"] = (inputs, outputs, size, size)
        transposed[f"{name}.{index}.bias"] = (outputs,)
    return transposed | _residual(f"{name}.1", 1024)


def _video_pooling(name: str) -> Shapes:
    return {
        f"{name}.se_layer.0.weight": (64, 512),
        f"{name}.se_layer.2.weight": (512, 64),
        **_linear(f"{name}.affine_video_ave", 512, 256),
        **_linear(f"{name}.affine_video_self", 512, 256),
        **_linear(f"{name}.ave_v_att", 256, 1),
    }


def _attention(name: str, width: int, layers: int) -> Shapes:
    shapes = _linear(f"{name}.affine_matrix", width, 256)
    for layer in ("encoder_layer", *(f"encoder.layers.{index}" for index in range(layers))):
        shapes |= {
            f"{name}.{layer}.self_attn.in_proj_weight": (768, 256),
            f"{name}.{layer}.self_attn.in_proj_bias": (768,),
            **_linear(f"{name}.{layer}.self_attn.out_proj", 256, 256),
            **_linear(f"{name}.{layer}.linear1", 256, 1024),
            **_linear(f"{name}.{layer}.linear2", 1024, 256),
        }
        for norm in ("norm1", "norm2"):
            shapes |= {f"{name}.{layer}.{norm}.{part}": (256,) for part in ("weight", "bias")}
    return shapes


def _codebook(name: str, levels: tuple[int, ...]) -> Shapes:
    return {
        f"{name}.embedding": (*levels, CODES, 256),
        f"{name}.ema_weight": (*levels, CODES, 256),
        f"{name}.ema_count": (*levels, CODES),
        f"{name}.unactivated_count": (*levels, CODES),
    }


def _lstm_cell(inputs: int, hidden: int) -> Shapes:
    return {
        "weight_ih": (4 * hidden, inputs),
        "weight_hh": (4 * hidden, hidden),
        "bias_ih": (4 * hidden,),
        "bias_hh": (4 * hidden,),
    }


def _values(name: str, shape: tuple[int, ...], seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()) + seed)
    if name.endswith("unactivated_count"):
        return torch.randint(-1, 300, shape, generator=generator).double()
    if name.endswith("ema_count"):
        return torch.rand(shape, generator=generator, dtype=torch.float64) + 0.1
    scale, centre = math.prod(shape[1:]) ** -0.5, 0.0
    if len(shape) == 4:
        return _convolution_values(shape, scale, generator)
    if len(shape) == 1:
        scale, centre = 0.1, float("norm" in name and name.endswith("weight"))
    if "embedding" in name or "ema_weight" in name:
        scale = 1.0
    return centre + scale * torch.randn(shape, generator=generator, dtype=torch.float64)


def _convolution_values(shape: tuple[int, ...], scale: float, generator: torch.Generator) -> Tensor:
    """Overlapping windows of one random row: the shape is full, the file is small."""
    strides = (37, 11, 3, 1)
    length = 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    row = scale * torch.randn(length, generator=generator, dtype=torch.float64)
    return row.as_strided(shape, strides)


def _optimizer() -> dict[str, Any]:
    parameter = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    optimizer = torch.optim.Adam([parameter], lr=4e-4)
    parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return optimizer.state_dict()
