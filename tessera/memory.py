"""How much memory a graph takes to serve: measured in a process of its own, which loads it and runs it once.

Run as a module it is that process: the graph's file and its inputs' shapes come as JSON on its standard input.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tessera.features import run_backbone
from tessera.manifest import TensorSpec
from tessera.runtime import Graph

_WINDOW = {"batch": 1, "time": 10, "tokens": 12}
_STATUS = Path("/proc/self/status")
_TIMEOUT_SEC = 900
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


def peak_memory_mb(file: Path, inputs: tuple[TensorSpec, ...]) -> float | None:
    """Megabytes that loading the graph in `file` and running a window of ten segments add.

    None where it does not come to its end: there is too little memory, or it takes longer than a quarter of an hour.
    """
    shapes = {spec.name: (spec.dtype, spec.sized(**_WINDOW)) for spec in inputs}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tessera.memory"],
            input=json.dumps({"file": str(file), "inputs": shapes}),
            capture_output=True,
            text=True,
            check=True,
            timeout=_TIMEOUT_SEC,
        )
    except subprocess.SubprocessError:
        return None
    return round(float(done.stdout), 1)


def _measure(file: str, inputs: Mapping[str, tuple[str, list[int]]]) -> float:
    before = _peak()
    graph = Graph(Path(file).read_bytes())
    run_backbone(graph, {name: np.zeros(shape, np.dtype(dtype)) for name, (dtype, shape) in inputs.items()})
    return _peak() - before


def _peak() -> float:
    try:
        (line,) = (row for row in _STATUS.read_text().splitlines() if row.startswith("VmHWM:"))
    except (OSError, ValueError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT / 1e6
    # The other one starts with the peak of whoever started this process.
    return int(line.split()[1]) * 1024 / 1e6


if __name__ == "__main__":
    print(_measure(**json.load(sys.stdin)))
