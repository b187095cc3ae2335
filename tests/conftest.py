"""What tests of several rooms share: a tiny real bundle, and the skip that CI turns into a failure."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings

# Before torch is imported, and for the processes that tests start: see tests/training/conftest.py.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Servers of tests say what people read, though nobody's terminal is there.
os.environ.setdefault("TESSERA_LOG_FORMAT", "text")

# No test asserts a time: beside others on a busy machine an example takes as long as it takes.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

LONGEST = (
    "export/backbones/test_end_to_end.py",
    "training/test_trainer.py",
    "export/test_export.py",
    "training/test_many_processes.py",
    "export/test_released_codes.py",
)
"""Files of more than a minute. They begin first, so that all processes end at about the same time."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ranks = {Path(__file__).parent / name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))


def built_once(factory: pytest.TempPathFactory, name: str, build: Callable[[Path], object]) -> Path:
    """The folder that `build` filled, in whichever process of this run was the first to need it."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            unfinished = factory.mktemp(name)
            build(unfinished)
            unfinished.rename(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a tiny FCID on the generated world: a few steps, a real checkpoint."""
    from tests.tiny import train_tiny
    from training.checkpoint import latest_checkpoint

    return latest_checkpoint(built_once(tmp_path_factory, "tiny-run", train_tiny) / "run")


@pytest.fixture(scope="session")
def bundle_dir(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, exported: real graphs with D=32, K=16, audio, video and text."""
    from tests.tiny import export_tiny

    return (
        built_once(tmp_path_factory, "tiny-bundle", lambda folder: export_tiny(tiny_run, folder / "tiny"))
        / "tiny"
    )


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
