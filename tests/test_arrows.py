"""The arrows of the house run downwards only, and a serving process never imports torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

MAY_IMPORT = {
    "tessera": {"tessera"},
    "training": {"training", "tessera"},
    "export": {"export", "training", "tessera"},
    "service": {"service", "tessera"},
}
FOREIGN = {
    "tessera": {"torch", "fastapi", "starlette"},
    "training": {"fastapi", "starlette"},
    "export": {"fastapi", "starlette"},
    "service": {"torch"},
}


def imported_roots(path: Path) -> set[str]:
    """The top-level packages that a file imports anywhere in it."""
    roots: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            roots |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path} uses a relative import"
            roots.add(node.module.split(".")[0])
    return roots


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_what_lies_below_it(room: str) -> None:
    files = sorted((ROOT / room).rglob("*.py"))
    assert files
    for path in files:
        roots = imported_roots(path)
        assert not (roots & (set(MAY_IMPORT) - MAY_IMPORT[room])), path
        assert not (roots & FOREIGN[room]), path


@pytest.mark.parametrize("room", ["tessera", "service"])
def test_serving_never_imports_torch_in_a_fresh_interpreter(room: str) -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in sorted((ROOT / room).rglob("*.py"))
        if path.name != "__main__.py"
    ]
    program = (
        f"import importlib, sys\nfor name in {modules!r}: importlib.import_module(name)\n"
        "bad = sorted({m.split('.')[0] for m in sys.modules} & {'torch', 'training', 'export'})\n"
        "print(','.join(bad))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


def test_the_command_line_of_serving_needs_no_torch() -> None:
    program = (
        "import sys; from tessera.cli import build_app; build_app(); "
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'torch', 'sklearn', 'onnx'}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
