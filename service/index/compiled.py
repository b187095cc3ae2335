"""Kernels over the arrays of a part, compiled by numba without the interpreter lock; `plain.py` has the same in numpy.

Scores are sums of whole numbers times one float32, so that order of summation, threads and instructions change nothing.
A heap of the best rows so far is two arrays, scores and rows, the worst on top: lower score, or same and later rank.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np


def _kernel(function: Callable[..., Any]) -> Any:
    return numba.njit(nogil=True, cache=True, boundscheck=False)(function)


BLOCK = 128
"""Entries of a block, at most."""

LANES = 16
"""Queries that share a scan: as many sums as fit one wide register."""

_PROBED = 16
_UNBOUNDED = np.float32(4.0)
DONE = np.float32(-4.0)
"""The bound of a block that is not scanned any more."""

_NOTHING = -(2**62)
_LEAST = -(2**31)


@_kernel
def _worse(score: Any, row: Any, other: Any, other_row: Any, ranks: Any) -> Any:
    return score < other or (score == other and ranks[row] > ranks[other_row])


@_kernel
def _push(scores: Any, rows: Any, count: Any, score: Any, row: Any, ranks: Any) -> Any:
    """Put a row on the heap, in the place of the worst where it is full; the caller knows that it is better."""
    size = len(scores)
    if count < size:
        place = count
        while place > 0:
            parent = (place - 1) // 2
            if not _worse(score, row, scores[parent], rows[parent], ranks):
                break
            scores[place] = scores[parent]
            rows[place] = rows[parent]
            place = parent
        scores[place] = score
        rows[place] = row
        return count + 1
    place = 0
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and _worse(scores[child + 1], rows[child + 1], scores[child], rows[child], ranks):
            child += 1
        if not _worse(scores[child], rows[child], score, row, ranks):
            break
        scores[place] = scores[child]
        rows[place] = rows[child]
        place = child
    scores[place] = score
    rows[place] = row
    return count


@_kernel
def _offer(
    scores: Any, rows: Any, count: Any, score: Any, first: Any, last: Any, mask: Any, ranks: Any
) -> Any:
    """Offer all allowed rows of an entry; they are in the order of their ranks, so the first refusal ends it."""
    for row in range(first, last):
        if not (mask[row >> 3] >> (row & 7)) & 1:
            continue
        if count == len(scores) and not _worse(scores[0], rows[0], score, row, ranks):
            break
        count = _push(scores, rows, count, score, row, ranks)
    return count


@_kernel
def _scan_block(
    codes: Any, weights: Any, firsts: Any, ranks: Any, width: Any, start: Any, first: Any, last: Any, table: Any,
    unit: Any, mask: Any, buffer: Any, scores: Any, rows: Any, count: Any,
) -> Any:  # fmt: skip
    """Score the entries [first, last) of one block, whose codes begin at `start`, and offer their rows."""
    size = last - first
    clips = codes[start : start + size * width].reshape(size, width)
    if width == 10:  # as the windows are: the compiler unrolls this loop
        for i in range(size):
            total = np.int32(0)
            for j in range(10):
                total += table[clips[i, j]]
            buffer[i] = np.float32(total) * weights[first + i] * unit
    else:
        for i in range(size):
            total = np.int32(0)
            for j in range(width):
                total += table[clips[i, j]]
            buffer[i] = np.float32(total) * weights[first + i] * unit
    for i in range(size):
        if count < len(scores) or buffer[i] >= scores[0]:
            count = _offer(
                scores, rows, count, buffer[i], firsts[first + i], firsts[first + i + 1], mask, ranks
            )
    return count


@_kernel
def bound_blocks(anchors: Any, edges: Any, cosines: Any, sines: Any, bounds: Any) -> None:
    """No entry of block b scores more than bounds[b]: angles obey the triangle inequality.

    `edges` [B, 4] are cosine and sine of the least and of the greatest angle to the block's anchor, `cosines` and
    `sines` [M] those of the query's angle to each anchor.
    """
    for block in range(len(anchors)):
        cosine = cosines[anchors[block]]
        sine = sines[anchors[block]]
        if cosine > edges[block, 0]:
            bounds[block] = cosine * edges[block, 0] + sine * edges[block, 1]
        elif cosine < edges[block, 2]:
            bounds[block] = cosine * edges[block, 2] + sine * edges[block, 3]
        else:
            bounds[block] = _UNBOUNDED


@_kernel
def probe_blocks(
    codes: Any, weights: Any, firsts: Any, ranks: Any, widths: Any, starts: Any, entries: Any, bounds: Any,
    tables: Any, kinds: Any, units: Any, mask: Any, scores: Any, rows: Any,
) -> Any:  # fmt: skip
    """Scan the blocks of the highest bounds, which sets the bar for all others; their bounds are then the lowest."""
    buffer = np.empty(BLOCK, np.float32)
    best = np.empty(_PROBED, np.float32)
    places = np.empty(_PROBED, np.int64)
    found = 0
    for block in range(len(bounds)):
        if found < _PROBED or bounds[block] > best[found - 1]:
            place = min(found, _PROBED - 1)
            while place > 0 and best[place - 1] < bounds[block]:
                best[place] = best[place - 1]
                places[place] = places[place - 1]
                place -= 1
            best[place] = bounds[block]
            places[place] = block
            found = min(found + 1, _PROBED)
    count = 0
    for i in range(found):
        block = places[i]
        if bounds[block] > DONE and (count < len(scores) or bounds[block] >= scores[0]):
            count = _scan_block(
                codes, weights, firsts, ranks, widths[block], starts[block], entries[block], entries[block + 1],
                tables[kinds[widths[block]]], units[kinds[widths[block]]], mask, buffer, scores, rows, count,
            )  # fmt: skip
        bounds[block] = DONE
    return count


@_kernel
def scan_blocks(
    codes: Any, weights: Any, firsts: Any, ranks: Any, widths: Any, starts: Any, entries: Any, bounds: Any,
    tables: Any, kinds: Any, units: Any, mask: Any, first: Any, last: Any, scores: Any, rows: Any, count: Any,
) -> Any:  # fmt: skip
    """Offer the rows of blocks [first, last) to a heap of `count` rows; what cannot be among the best is left out."""
    buffer = np.empty(BLOCK, np.float32)
    for block in range(first, last):
        if bounds[block] > DONE and (count < len(scores) or bounds[block] >= scores[0]):
            count = _scan_block(
                codes, weights, firsts, ranks, widths[block], starts[block], entries[block], entries[block + 1],
                tables[kinds[widths[block]]], units[kinds[widths[block]]], mask, buffer, scores, rows, count,
            )  # fmt: skip
    return count


@_kernel
def nearest_anchors(codes: Any, products: Any, nearest: Any) -> None:
    """The anchor of the highest cosine for each entry, [n]; `codes` [n, width], `products` [K, anchors]."""
    anchors = products.shape[1]
    sums = np.empty(anchors, products.dtype)
    for entry in range(len(codes)):
        sums[:] = products[codes[entry, 0]]
        for place in range(1, codes.shape[1]):
            code = codes[entry, place]
            for anchor in range(anchors):
                sums[anchor] += products[code, anchor]
        nearest[entry] = np.argmax(sums)


@_kernel
def _compare(clip: Any, levels: Any, dots: Any, squares: Any, products: Any, likenesses: Any) -> Any:
    """The cosines of the segments of a clip with the query, in steps of 2**-20. Returns the highest."""
    best = np.int64(_NOTHING)
    for segment in range(len(likenesses)):
        dot = 0.0
        square = 0.0
        for level in range(levels):
            code = clip[segment * levels + level]
            dot += dots[code]
            square += squares[code]
            if len(products):
                for other in range(level):
                    square += 2.0 * products[clip[segment * levels + other], code]
        value = np.int64(0)
        if square > 1e-12:
            value = np.int64(np.rint(dot / np.sqrt(square) * 1048576.0))
        likenesses[segment] = value
        best = max(best, value)
    return best


@_kernel
def _best_stretch(likenesses: Any, taken: Any) -> Any:
    """The highest sum of `taken` neighbours."""
    total = np.int64(0)
    best = np.int64(_NOTHING)
    for segment in range(len(likenesses)):
        total += likenesses[segment]
        if segment >= taken:
            total -= likenesses[segment - taken]
        if segment >= taken - 1:
            best = max(best, total)
    return best


@_kernel
def scan_segments(
    codes: Any, firsts: Any, ranks: Any, widths: Any, starts: Any, entries: Any, bounds: Any, levels: Any,
    likeness: Any, dots: Any, squares: Any, products: Any, span: Any, mask: Any, first: Any, last: Any, scores: Any,
    rows: Any, count: Any,
) -> Any:  # fmt: skip
    """Offer the rows of blocks [first, last) by their best stretch of `span` segments, or all they have if fewer.

    No stretch is better than its best segment, which is all that most entries are asked for.
    """
    longest = 1
    for block in range(first, last):
        longest = max(longest, widths[block] // levels)
    likenesses = np.empty(longest, np.int64)
    for block in range(first, last):
        if bounds[block] <= DONE:
            continue
        width = widths[block]
        size = entries[block + 1] - entries[block]
        clips = codes[starts[block] : starts[block] + size * width].reshape(size, width)
        own = likenesses[: width // levels]
        taken = min(span, len(own))
        for i in range(size):
            if levels == 1:
                best = np.int32(_LEAST)
                for place in range(width):
                    best = max(best, likeness[clips[i, place]])
            else:
                best = _compare(clips[i], levels, dots, squares, products, own)
            if count == len(scores) and np.float32(best / 1048576.0) < scores[0]:
                continue
            if levels == 1:
                for place in range(width):
                    own[place] = likeness[clips[i, place]]
            score = np.float32(_best_stretch(own, taken) / (taken * 1048576.0))
            if count < len(scores) or score >= scores[0]:
                entry = entries[block] + i
                count = _offer(scores, rows, count, score, firsts[entry], firsts[entry + 1], mask, ranks)
    return count


@_kernel
def _reaching(clip: Any, table: Any, factor: Any, unit: Any, bars: Any) -> Any:
    """How many lanes an entry of ten codes is good enough for."""
    a, b, c, d, e = clip[0], clip[1], clip[2], clip[3], clip[4]
    f, g, h, i, j = clip[5], clip[6], clip[7], clip[8], clip[9]
    reaching = 0
    for lane in range(LANES):  # all in one register: nothing but the count leaves this loop
        total = (
            table[a, lane] + table[b, lane] + table[c, lane] + table[d, lane] + table[e, lane]
            + table[f, lane] + table[g, lane] + table[h, lane] + table[i, lane] + table[j, lane]
        )  # fmt: skip
        reaching += np.float32(total) * factor * unit >= bars[lane]
    return reaching


@_kernel
def scan_together(
    codes: Any, weights: Any, firsts: Any, ranks: Any, widths: Any, starts: Any, entries: Any, bounds: Any,
    tables: Any, lanes: Any, kinds: Any, units: Any, mask: Any, scores: Any, rows: Any, counts: Any,
) -> None:  # fmt: skip
    """As `scan_blocks` for up to LANES queries at once, each with its heap: ten codes are read once for all.

    There are as many `tables` [queries, kinds, K] and `bounds` [queries, B] as heaps; `lanes` [kinds, K, LANES] are the
    same tables with the query last.
    """
    queries = len(counts)
    buffer = np.empty(BLOCK, np.float32)
    bars = np.full(LANES, np.inf, np.float32)
    for block in range(len(widths)):
        wanted = 0
        for lane in range(queries):
            bars[lane] = scores[lane, 0] if counts[lane] == scores.shape[1] else np.float32(-np.inf)
            wanted += bounds[lane, block] > DONE and bounds[lane, block] >= bars[lane]
        width = widths[block]
        kind = kinds[width]
        first, last = entries[block], entries[block + 1]
        if wanted < 4 or width != 10:
            for lane in range(queries):
                if bounds[lane, block] > DONE and bounds[lane, block] >= bars[lane]:
                    counts[lane] = _scan_block(
                        codes, weights, firsts, ranks, width, starts[block], first, last, tables[lane, kind],
                        units[kind], mask, buffer, scores[lane], rows[lane], counts[lane],
                    )  # fmt: skip
            continue
        table = lanes[kind]
        clips = codes[starts[block] : starts[block] + (last - first) * 10].reshape(last - first, 10)
        for i in range(last - first):
            if not _reaching(clips[i], table, weights[first + i], units[kind], bars):
                continue
            for lane in range(queries):
                total = np.int32(0)
                for place in range(10):
                    total += table[clips[i, place], lane]
                score = np.float32(total) * weights[first + i] * units[kind]
                if bounds[lane, block] > DONE and score >= bars[lane]:
                    counts[lane] = _offer(
                        scores[lane], rows[lane], counts[lane], score, firsts[first + i], firsts[first + i + 1],
                        mask, ranks,
                    )  # fmt: skip
                    if counts[lane] == scores.shape[1]:
                        bars[lane] = scores[lane, 0]
