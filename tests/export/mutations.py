"""Graphs that are nearly right: an ONNX file with a few nodes between its own and one of its inputs or outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

Mutation = Callable[[onnx.ModelProto], None]


def mutated(data: bytes, *mutations: Mutation) -> bytes:
    """The file `data`, changed."""
    model = onnx.load_model_from_string(data)
    for mutation in mutations:
        mutation(model)
    changed: bytes = model.SerializeToString()
    return changed


def after(output: str, operator: str, value: np.ndarray) -> Mutation:
    """`output` is what `operator` makes of it and `value`."""

    def change(model: onnx.ModelProto) -> None:
        own, constant = f"{output} before {operator}", f"{output} {operator}"
        for node in model.graph.node:
            node.input[:] = [own if name == output else name for name in node.input]
            node.output[:] = [own if name == output else name for name in node.output]
        model.graph.initializer.append(numpy_helper.from_array(value, constant))
        model.graph.node.append(helper.make_node(operator, [own, constant], [output]))

    return change


def before(source: str, *nodes: onnx.NodeProto) -> Mutation:
    """What takes `source` takes `changed`, which `nodes` make of it."""

    def change(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            node.input[:] = ["changed" if name == source else name for name in node.input]
        rest = list(model.graph.node)
        del model.graph.node[:]
        model.graph.node.extend([*nodes, *rest])

    return change


def scaled(output: str, factor: float) -> Mutation:
    """`output` times `factor`, which may be no number."""
    return after(output, "Mul", np.array(factor, np.float32))


def shifted(output: str, amount: float) -> Mutation:
    """`output` plus `amount`."""
    return after(output, "Add", np.array(amount, np.float32))


def _other_rows(output: str, size: int) -> Mutation:
    """Every code is the one below, and the first one the last."""

    def change(model: onnx.ModelProto) -> None:
        after(output, "Add", np.array(size - 1))(model)
        after(output, "Mod", np.array(size))(model)

    return change


def mutations(size: int) -> Mapping[str, Mutation]:
    """Of a codes graph with clip codes and `size` codes."""
    zero = helper.make_node("Constant", [], ["row 0"], value_int=0)
    first = helper.make_node("Gather", ["features", "row 0"], ["first row"])
    return {
        "other rows": _other_rows("codes", size),
        "other clip codes": _other_rows("clip_code", size),
        "wrong margins": scaled("margins", 1.5),
        "no margins": scaled("margins", 0.0),
        "no clip margins": scaled("clip_margin", 0.0),
        "no latents": scaled("latents", 0.0),
        "shifted latents": shifted("latents", 0.05),
        "other embeddings": scaled("embeddings", 1.001),
        "no numbers": scaled("latents", float("nan")),
        "no margins that are numbers": scaled("margins", float("nan")),
        "of its batch": before(
            "features", zero, first, helper.make_node("Add", ["features", "first row"], ["changed"])
        ),
    }
