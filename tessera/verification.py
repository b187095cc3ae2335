"""What can be proven of a bundle without its model: the graphs agree with each other and with the codebook.

N windows, T segments, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from tessera.bundle import Bundle
from tessera.comparison import CLIP, SEGMENTS, Outputs, Tally, largest_difference
from tessera.errors import BundleError
from tessera.features import run_backbone
from tessera.manifest import AudioSpec, Comparison, Manifest, VideoSpec
from tessera.runtime import OPTIMIZATIONS, Graph
from tessera.text import TOKENIZER, piece_count
from tessera.tokenizer import Tokenizer
from tessera.windows import Modality

EPSILON = 1e-3
"""Largest margin at which a code may differ from one computation to another."""

EXACT = 1e-5
"""Largest difference of an embedding from the row of the codebook that its code stands for."""

_SHAPES = ((1, 1), (1, 10), (3, 4), (64, 10))
_TOKENS = 10


def verify_bundle(bundle: Bundle) -> dict[Modality, Mapping[str, Comparison]]:
    """Run the graphs of `bundle` on noise of several shapes and compare what has to be equal, by modality and name.

    Every level of optimisation with the one that serves; windows in a batch with the same alone; texts with the same
    and empty slots behind them, where the model fills those up; embeddings with the codebook.

    Raises:
        BundleError: something is not equal.
    """
    tokenizer = Tokenizer(bundle)
    return {modality: _verify(tokenizer, modality) for modality in tokenizer.modalities}


def _verify(tokenizer: Tokenizer, modality: Modality) -> Mapping[str, Comparison]:
    bundle, manifest = tokenizer.bundle, tokenizer.manifest
    data = bundle.graph(f"{modality}.codes")
    graphs = {level: Graph(data, optimization=level) for level in OPTIMIZATIONS}
    tallies: dict[str, Tally] = {level: Tally(manifest.depth) for level in OPTIMIZATIONS}
    alone = Tally(manifest.depth)
    spread = _features(bundle, modality)
    for number, (windows, time) in enumerate(_SHAPES):
        features = _noise(spread, windows, time, number)
        served = graphs["all"].run({"features": features})
        _require_rows(tokenizer, modality, served)
        for level, graph in graphs.items():
            tallies[level].add(served, graph.run({"features": features}))
        for row in range(min(8, windows)):
            alone.add(
                {name: values[row : row + 1] for name, values in served.items()},
                graphs["all"].run({"features": features[row : row + 1]}),
            )
    found = {f"optimisation '{level}'": tally.result() for level, tally in tallies.items()}
    found["windows alone"] = alone.result()
    if modality == "text" and manifest.text is not None and manifest.text.slots is not None:
        found["empty slots"] = _filled(graphs["all"], _noise(spread, 4, 3, 9), manifest)
    for name, comparison in found.items():
        if not comparison.largest_margin < EPSILON:
            raise BundleError(
                f"{modality}.codes, {name}: {comparison.mismatches} of {comparison.codes} codes differ, with margins "
                f"up to {comparison.largest_margin:.2g} (allowed: below {EPSILON:g})"
            )
    return found


def _filled(graph: Graph, features: NDArray[np.float32], manifest: Manifest) -> Comparison:
    """Words alone against the same words with empty slots behind them."""
    assert manifest.text is not None, "only texts have slots. This is a bug."
    time = features.shape[1]
    empty = (manifest.text.slots or time) - time
    longer = graph.run({"features": np.pad(features, ((0, 0), (0, empty), (0, 0)))})
    cut = {name: values if name in CLIP else values[:, :time] for name, values in longer.items()}
    tally = Tally(manifest.depth)
    tally.add(cut, graph.run({"features": features}))
    return tally.result()


def _require_rows(tokenizer: Tokenizer, modality: Modality, outputs: Outputs) -> None:
    for codes, _, embeddings, _ in (SEGMENTS, CLIP):
        if codes not in outputs:
            continue
        index = outputs[codes].astype(np.int64)
        rows = tokenizer.detokenize(index.reshape(-1, index.shape[-1]))
        found = outputs[embeddings].reshape(len(rows), -1)
        if not largest_difference(rows, found) <= EXACT * max(1.0, float(np.abs(rows).max())):
            raise BundleError(f"the embeddings of {modality}.codes are not the rows of the codebook")


def _features(bundle: Bundle, modality: Modality) -> NDArray[np.float32]:
    """What the backbone says of a little noise: [segments, ...]."""
    outputs = run_backbone(Graph(bundle.graph(f"{modality}.backbone")), _media(bundle, modality))
    features: NDArray[np.float32] = outputs["features"].astype(np.float32)
    return features.reshape(-1, *features.shape[2:])


def _media(bundle: Bundle, modality: Modality) -> dict[str, NDArray[np.generic]]:
    random, spec = np.random.default_rng(0), getattr(bundle.manifest, modality)
    if isinstance(spec, AudioSpec):
        return {"waveform": (0.2 * random.standard_normal((1, 4 * spec.sample_rate))).astype(np.float32)}
    if isinstance(spec, VideoSpec):
        picture = (spec.frames_per_segment, spec.height, spec.width, 3)
        return {"frames": random.integers(0, 256, (1, 2, *picture), dtype=np.uint8)}
    # Not a text: of a bundle with a list of words, hardly any sentence has one of them.
    pieces = piece_count(bundle.file(TOKENIZER))
    return {
        "input_ids": random.integers(pieces, size=(1, _TOKENS), dtype=np.int64),
        "slots": np.eye(_TOKENS, dtype=np.float32)[None],
    }


def _noise(spread: NDArray[np.float32], windows: int, time: int, seed: int) -> NDArray[np.float32]:
    """Features [windows, time, ...] with the mean and the deviation of `spread` in each channel."""
    noise = np.random.default_rng(seed).standard_normal((windows, time, *spread.shape[1:]))
    features: NDArray[np.float32] = (spread.mean(axis=0) + spread.std(axis=0) * noise).astype(np.float32)
    return features
