"""The authors' inference in float64 and plain formulas, by the names of their files; nothing of Tessera is used.

B clips, T seconds or word slots, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

Weights = Mapping[str, Tensor]
HEADS = 4


def linear(w: Weights, name: str, x: Tensor) -> Tensor:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def normalise(w: Weights, name: str, x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    spread = (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return centred / spread * w[f"{name}.weight"] + w[f"{name}.bias"]


def attention(w: Weights, name: str, x_BTC: Tensor) -> Tensor:
    """Four heads over all positions, without a mask."""
    batch, time, channels = x_BTC.shape
    projected = x_BTC @ w[f"{name}.in_proj_weight"].T + w[f"{name}.in_proj_bias"]
    query, key, value = (
        part.reshape(batch, time, HEADS, channels // HEADS).transpose(1, 2) for part in projected.chunk(3, -1)
    )
    scores = query @ key.transpose(-1, -2) / math.sqrt(channels // HEADS)
    mixed = torch.softmax(scores, -1) @ value
    return linear(w, f"{name}.out_proj", mixed.transpose(1, 2).reshape(batch, time, channels))


def temporal(w: Weights, name: str, x: Tensor) -> Tensor:
    """Linear, then layers that normalise after each residual."""
    z = linear(w, f"{name}.affine_matrix", x)
    prefix = f"{name}.encoder.layers."
    layers = {key.removeprefix(prefix).split(".")[0] for key in w if key.startswith(prefix)}
    for index in range(len(layers)):
        layer = f"{prefix}{index}"
        z = normalise(w, f"{layer}.norm1", z + attention(w, f"{layer}.self_attn", z))
        hidden = linear(w, f"{layer}.linear1", z).clamp(min=0)
        z = normalise(w, f"{layer}.norm2", z + linear(w, f"{layer}.linear2", hidden))
    return z


def pooled(w: Weights, name: str, maps: Tensor) -> Tensor:
    """49 m (1 + s) of maps [B, T, 7, 7, 512]."""
    mean = maps.sum((2, 3)) / 49
    gate = (mean @ w[f"{name}.se_layer.0.weight"].T).clamp(min=0) @ w[f"{name}.se_layer.2.weight"].T
    return 49 * mean * (1 + 1 / (1 + torch.exp(-gate)))


def video_vector(w: Weights, name: str, maps: Tensor) -> Tensor:
    """What CLUB and a second level see of maps [B, T, 7, 7, 512]."""

    def convolution(key: str, x: Tensor, padding: int = 0) -> Tensor:
        return F.conv2d(x, w[f"{name}.{key}.weight"], w.get(f"{name}.{key}.bias"), padding=padding)

    x = maps.flatten(0, 1).permute(0, 3, 1, 2)
    x = convolution("conv_stack.0", x).clamp(min=0)
    x = convolution("conv_stack.2", x).clamp(min=0)
    x = convolution("conv_stack.4", x).clamp(min=0)
    block = "conv_stack.5.stack.0.res_block"
    x = (x + convolution(f"{block}.3", convolution(f"{block}.1", x, padding=1).clamp(min=0))).clamp(min=0)
    mean = x.sum((2, 3)) / 9
    hidden = linear(w, f"{name}.feed_forward.0", mean).clamp(min=0)
    return linear(w, f"{name}.feed_forward.2", hidden).unflatten(0, maps.shape[:2])


def lstm_direction(w: Weights, suffix: str, x_BTC: Tensor, order: list[int]) -> Tensor:
    """Gates input, forget, cell, output; from zero states, slots in `order`."""
    hidden = x_BTC.new_zeros(len(x_BTC), w[f"weight_hh_{suffix}"].shape[1])
    cell, outputs = hidden, {}
    for slot in order:
        gates = x_BTC[:, slot] @ w[f"weight_ih_{suffix}"].T + w[f"bias_ih_{suffix}"]
        gates = gates + hidden @ w[f"weight_hh_{suffix}"].T + w[f"bias_hh_{suffix}"]
        enter, keep, new, leave = gates.chunk(4, -1)
        cell = torch.sigmoid(keep) * cell + torch.sigmoid(enter) * torch.tanh(new)
        hidden = torch.sigmoid(leave) * torch.tanh(cell)
        outputs[slot] = hidden
    return torch.stack([outputs[slot] for slot in range(len(order))], dim=1)


def text_lstm(w: Weights, x: Tensor) -> Tensor:
    """Two layers, both directions side by side; empty slots are read like words."""
    slots = list(range(x.shape[1]))
    for layer in ("l0", "l1"):
        forth = lstm_direction(w, layer, x, slots)
        back = lstm_direction(w, f"{layer}_reverse", x, slots[::-1])
        x = torch.cat([forth, back], -1)
    return x


def latents(file: Mapping[str, Weights], modality: str, x: Tensor) -> list[Tensor]:
    """The vectors [B, T, 256] that DCID quantises, or H-DCID on its two levels."""
    w = file["Encoder_parameters"]
    if modality == "text":
        x = text_lstm(file["Text_ar_lstm_parameters"], x)
    seen = pooled(w, "video_semantic_encoder", x) if modality == "video" else x
    first = temporal(w, f"{modality}_self_att", seen)
    if f"{modality}_self_att_2.affine_matrix.weight" not in w:
        return [first]
    if modality == "video":
        specific = video_vector(w, "Video_encoder", x)
    else:
        specific = linear(w, f"{modality.capitalize()}_encoder.{modality}_linear", x).clamp(min=0)
    return [first, temporal(w, f"{modality}_self_att_2", specific)]


def coarse_latents(file: Mapping[str, Weights], modality: str, x: Tensor, *, clip: bool) -> Tensor:
    """The vectors that FCID quantises: of every second [B, T, 256], or of the clip [B, 256]."""
    w = file["Encoder_parameters"]
    seen = pooled(w, "v_gen_encoder", x) if modality == "video" else x
    fine = temporal(w, f"{modality[0]}_self_att", seen)
    branch = "t" if modality == "text" else "va"
    projected = linear(w, f"{branch}2vat.linear", fine.mean(1) if clip else fine)
    return linear(w, f"{branch}_gen_encoder.input_linear", projected).clamp(min=0)


def nearest(table: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Codes [...] of `z` [..., 256], and by how much the second nearest is farther."""
    distances = (z.unsqueeze(-2) - table).square().sum(-1).sqrt()
    two = distances.topk(2, dim=-1, largest=False)
    return distances.argmin(-1), two.values[..., 1] - two.values[..., 0]
