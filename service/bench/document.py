"""What a bench says: JSON on stdout and in a file, a table on stderr."""

from __future__ import annotations

import os
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table


def publish(
    benchmark: str, facts: dict[str, Any], figures: list[dict[str, Any]], table: Table, out: Path | None
) -> None:
    """Print `facts` and `figures` with where they come from, and write them to `out`."""
    report = {
        "benchmark": benchmark,
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": _machine(),
        **facts,
        "figures": figures,
    }
    document = orjson.dumps(report, option=orjson.OPT_INDENT_2).decode()
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(document + "\n")
    Console(stderr=True).print(table)
    print(document)


def _machine() -> dict[str, object]:
    return {
        "cores": os.cpu_count(),
        "python": sys.version.split()[0],
        "platform": sys.platform,
        "tessera": version("tessera"),
        "onnxruntime": version("onnxruntime"),
    }
