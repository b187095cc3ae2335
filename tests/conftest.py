"""What tests of several rooms share: a tiny real bundle, and the skip that CI turns into a failure."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

# Before torch is imported, and for the processes that tests start: see tests/training/conftest.py.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a tiny FCID on the generated world: a few steps, a real checkpoint."""
    from tests.tiny import train_tiny

    return train_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def bundle_dir(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, exported: real graphs with D=32, K=16, audio, video and text."""
    from tests.tiny import export_tiny

    return export_tiny(tiny_run, tmp_path_factory.mktemp("bundle") / "tiny")


@pytest.fixture
def bundle_copy(bundle_dir: Path, tmp_path: Path) -> Path:
    """A copy of the tiny bundle that a test may damage."""
    return Path(shutil.copytree(bundle_dir, tmp_path / "bundle"))


def require(path: str | None, what: str, package: str) -> Path:
    """`path`, if it exists; else the test is skipped, or fails where tests are strict."""
    if path is not None and Path(path).exists():
        return Path(path)
    message = f"needs {what}: apt-get install {package}"
    if os.environ.get("TESSERA_TEST_STRICT"):
        pytest.fail(message)
    pytest.skip(message)
