"""An environment a peer, made when it is first asked for: they exclude each other's packages, and ours."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from service.bench.peers.catalogue import SOURCES, Peer
from tessera.errors import TesseraError

_DONE = "tessera-peer-is-complete"


class PeerFailed(TesseraError):
    """A peer cannot be installed, does not start, or answers wrongly. The others go on."""


def default_cache() -> Path:
    """Where environments are kept from one run to the next."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tessera" / "peers"


def require_sources() -> None:
    """Refuse to start where the servers of the peers are not at hand.

    Raises:
        TesseraError: this is an installed package and not a checkout.
    """
    if not SOURCES.is_dir():
        raise TesseraError(
            "the servers of the peers are not part of the package: run this in a checkout of the project"
        )


def interpreter(peer: Peer, cache: Path) -> Path:
    """The Python that runs `peer`; its environment is made in `cache` where it is not there yet, in minutes.

    Raises:
        PeerFailed: its environment cannot be made.
    """
    if peer.python is None:
        return Path(sys.executable)
    requirements = peer.folder / "requirements.txt"
    folder = cache / f"{peer.name}-{hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]}"
    python = folder / "bin" / "python"
    if not (folder / _DONE).exists():
        shutil.rmtree(folder, ignore_errors=True)
        cache.mkdir(parents=True, exist_ok=True)
        _run([peer.python, "-m", "venv", str(folder)])
        _run([str(python), "-m", "pip", "install", "--quiet", "--requirement", str(requirements)])
        (folder / _DONE).touch()
    return python


def installed_version(python: Path, package: str) -> str:
    """The version of `package` in the environment of `python`."""
    program = f"from importlib.metadata import version; print(version({package!r}))"
    return _run([str(python), "-c", program]).strip()


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise PeerFailed(f"{command[0]}: {error.strerror}") from None
    if done.returncode:
        raise PeerFailed(last_words(done.stderr or done.stdout))
    return done.stdout


def last_words(log: str) -> str:
    """The line of `log` that says most likely what went wrong."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or ["it said nothing"])[-1][:300]
