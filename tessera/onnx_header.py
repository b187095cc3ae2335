"""What an ONNX file says of itself, read without running or even loading it: signature, metadata, data outside.

A serving image has no `onnx` package, and ONNX Runtime opens the files that a graph names before one could object.
The file is walked as protobuf messages; all but the parts named here are skipped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tessera.manifest import TensorSpec

_DTYPES = {1: "float32", 2: "uint8", 6: "int32", 7: "int64", 9: "bool", 10: "float16", 11: "float64"}
_EXTERNAL = 1

# Of each kind of message, the fields that can hold a tensor, by number (onnx.proto).
_CHILDREN: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_TENSOR_EXTERNAL_DATA, _TENSOR_DATA_LOCATION = 13, 14

Value = int | memoryview


@dataclass(frozen=True)
class OnnxHeader:
    """The inputs, outputs and metadata of an ONNX file, and whether a tensor of it lies in another file."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    metadata: dict[str, str] = field(default_factory=dict)
    external_data: bool = False

    @classmethod
    def read(cls, data: bytes) -> OnnxHeader:
        """The header of the ONNX file `data`.

        Raises:
            ValueError: it is not an ONNX file.
        """
        model = memoryview(data)
        try:
            (graph,) = _messages(model, 7)
            return cls(
                inputs=tuple(_tensor_spec(value) for value in _messages(graph, 11)),
                outputs=tuple(_tensor_spec(value) for value in _messages(graph, 12)),
                metadata={_text(p, 1): _text(p, 2) for p in _messages(model, 14)},
                external_data=_has_external(model, "model"),
            )
        except (ValueError, IndexError, KeyError, TypeError, RecursionError):
            raise ValueError("not an ONNX file that can be read") from None


def _tensor_spec(value: memoryview) -> TensorSpec:
    (type_,) = _messages(value, 2)
    (tensor,) = _messages(type_, 1)
    (code,) = (number for key, number in _fields(tensor) if key == 1)
    axes = [axis for shape in _messages(tensor, 2) for axis in _messages(shape, 1)]
    return TensorSpec(name=_text(value, 1), dtype=_DTYPES[int(code)], shape=tuple(map(_axis, axes)))


def _axis(dimension: memoryview) -> int | str:
    """A size, or the name of what is only known when the graph runs."""
    for key, value in _fields(dimension):
        if key == 1 and isinstance(value, int):
            return value
        if key == 2 and isinstance(value, memoryview):
            return str(value, "utf-8")
    return ""


def _has_external(message: memoryview, kind: str) -> bool:
    if kind == "tensor":
        return any(
            key == _TENSOR_EXTERNAL_DATA or (key == _TENSOR_DATA_LOCATION and value == _EXTERNAL)
            for key, value in _fields(message)
        )
    children = _CHILDREN[kind]
    return any(
        _has_external(value, children[key])
        for key, value in _fields(message)
        if key in children and isinstance(value, memoryview)
    )


def _messages(message: memoryview, number: int) -> list[memoryview]:
    """The fields `number` of `message`, which are messages themselves."""
    return [value for key, value in _fields(message) if key == number and isinstance(value, memoryview)]


def _text(message: memoryview, number: int) -> str:
    return "".join(str(value, "utf-8") for value in _messages(message, number)[-1:])


def _fields(message: memoryview) -> Iterator[tuple[int, Value]]:
    """Each field of a message: its number, and its integer or its bytes."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, position = _varint(message, position)
            yield number, value
            continue
        length = {1: 8, 5: 4}.get(wire)
        if wire == 2:
            length, position = _varint(message, position)
        if length is None or position + length > len(message):
            raise ValueError("a damaged message")
        yield number, message[position : position + length]
        position += length


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("a damaged number")
