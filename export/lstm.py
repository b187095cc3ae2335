"""An LSTM that exports: torch's own bakes the length of the example into whatever follows it, and reports success.

B batch, T positions, C channels, H hidden channels, D directions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from training.models.encoders import TextLSTM

_FIRST_OPSET = 14
"""Since when the operator of ONNX is as it is."""


class ExportableLSTM(nn.Module):
    """`lstm`, which has the batch first; in an export one LSTM operator of ONNX a layer, whose axes stay free."""

    def __init__(self, lstm: nn.LSTM) -> None:
        super().__init__()
        self.lstm = lstm
        self.directions = 2 if lstm.bidirectional else 1
        for layer in range(lstm.num_layers):
            for name, values in zip("WRB", _packed(lstm, layer), strict=True):
                self.register_buffer(f"{name}{layer}", values, persistent=False)

    def forward(self, x: Any) -> tuple[Tensor, Any]:
        """[B, T, C] -> [B, T, D * H] and what else an LSTM returns, which no export has; outside one, packed too."""
        if not torch.onnx.is_in_onnx_export():
            read: tuple[Tensor, Any] = self.lstm(x)
            return read
        y: Tensor = x.transpose(0, 1)
        for layer in range(self.lstm.num_layers):
            y = self._layer(layer, y).transpose(1, 2).flatten(2)
        return y.transpose(0, 1), None

    def _layer(self, layer: int, x_TBC: Tensor) -> Tensor:
        """[T, B, C] -> [T, D, B, H]."""
        hidden = self.lstm.hidden_size
        return torch.onnx.ops.symbolic(
            "LSTM",
            (x_TBC, *(self.get_buffer(f"{name}{layer}") for name in "WRB")),
            {"hidden_size": hidden, "direction": "bidirectional" if self.directions == 2 else "forward"},
            dtype=x_TBC.dtype,
            shape=(x_TBC.shape[0], self.directions, x_TBC.shape[1], hidden),
            version=_FIRST_OPSET,
        )


def replace_lstms(model: nn.Module) -> None:
    """Make the text LSTMs of `model` exportable, in place; it computes as before."""
    for module in model.modules():
        if isinstance(module, TextLSTM) and isinstance(module.lstm, nn.LSTM):
            module.add_module("lstm", ExportableLSTM(module.lstm))


def _packed(lstm: nn.LSTM, layer: int) -> tuple[Tensor, Tensor, Tensor]:
    """Weights [D, 4 H, C], recurrent weights [D, 4 H, H] and both biases [D, 8 H] of a layer, in ONNX's order."""
    suffixes = ("", "_reverse") if lstm.bidirectional else ("",)

    def stacked(name: str) -> Tensor:
        parts = [_reordered(lstm.get_parameter(f"{name}_l{layer}{suffix}")) for suffix in suffixes]
        return torch.stack(parts)

    biases = torch.cat([stacked("bias_ih"), stacked("bias_hh")], dim=1)
    return stacked("weight_ih"), stacked("weight_hh"), biases


def _reordered(gates: Tensor) -> Tensor:
    """Input, forget, cell, output -> input, output, forget, cell."""
    enter, keep, new, leave = gates.detach().chunk(4)
    return torch.cat([enter, leave, keep, new])
