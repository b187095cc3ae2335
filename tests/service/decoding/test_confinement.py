"""What a decoder can do: compute. Each test tries what it must not do, in a process that is confined as one is."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from service.decoding.confinement import allow_processor_time, confine, missing
from service.decoding.processes import ProcessDecoding
from tessera.tokenizer import Tokenizer
from tests.conftest import require
from tests.media_files import clip
from tests.service.decoding.reading import decoder_processes, media, read_whole, with_decoders

MEMORY = 256 * 2**20


def outcome(attempt: Callable[[], object]) -> int:
    """The errno of `attempt` in a confined process; 0 where it was allowed, 255 for another error; -N of a signal."""
    child = os.fork()
    if not child:
        status = 254
        try:
            confine(MEMORY)
            attempt()
            status = 0
        except OSError as error:
            status = error.errno or 255
        except BaseException:
            status = 255
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


@pytest.fixture
def filtered() -> None:
    """System calls are."""
    require(None if missing() else "/", "libseccomp", "libseccomp2")


@pytest.mark.usefixtures("filtered")
@pytest.mark.parametrize(
    "attempt",
    [
        lambda: socket.socket(),
        lambda: socket.socketpair(),
        lambda: os.open("/etc/hostname", os.O_RDONLY),
        lambda: Path("/tmp/of-a-decoder").write_text("x"),
        lambda: os.fork(),
        lambda: os.execv("/bin/true", ["true"]),
        lambda: os.posix_spawn("/bin/true", ["true"], {}),
        lambda: os.kill(os.getppid(), 0),
        lambda: os.unlink("/tmp/of-a-decoder"),
        lambda: os.chdir("/"),
        lambda: os.setuid(0),
        lambda: os.setresuid(0, 0, 0),
    ],
    ids=lambda attempt: ",".join(attempt.__code__.co_names),
)
def test_the_system_refuses(attempt: Callable[[], object]) -> None:
    assert outcome(attempt) == errno.EPERM


def test_computing_and_threads_are_allowed() -> None:
    def compute() -> None:
        thread = threading.Thread(target=lambda: np.ones(1000).sum())
        thread.start()
        thread.join()

    assert outcome(compute) == 0


def test_memory_is_bounded() -> None:
    assert outcome(lambda: np.ones(MEMORY // 4, np.uint8)) == 0
    assert outcome(lambda: np.ones(2 * MEMORY, np.uint8)) == 255  # MemoryError


def test_files_are_bounded() -> None:
    assert outcome(lambda: os.pwrite(os.memfd_create("file"), b"x", 0)) == errno.EFBIG


def test_processor_time_is_bounded() -> None:
    def spin() -> None:
        allow_processor_time(1)
        while True:
            pass

    assert outcome(spin) == -signal.SIGXCPU


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_root_becomes_nobody() -> None:
    def check() -> None:
        assert os.getresuid() == os.getresgid() == (65534, 65534, 65534)
        assert os.getgroups() == []

    assert outcome(check) == 0


def test_a_decoder_is_confined_and_knows_no_secret(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TESSERA_API_KEYS", "of nobody's business")

    async def look(decoding: ProcessDecoding) -> tuple[psutil.Process, dict[str, str], int]:
        await read_whole(decoding, tokenizer, media("audio", clip("wav")))
        (decoder,) = decoder_processes()
        place = Path(f"/proc/{decoder.pid}")
        said = {name: place.joinpath(name).read_text() for name in ("environ", "status", "limits")}
        return decoder, said, decoder.num_fds()

    decoder, said, files = with_decoders(look, decode_memory_mb=512)
    assert "nobody's business" not in said["environ"]
    assert missing() or "Seccomp:\t2" in said["status"]
    limits = {line[:26].strip(): line[26:].split() for line in said["limits"].splitlines()}
    assert limits["Max core file size"][:2] == limits["Max file size"][:2] == ["0", "0"]
    assert int(limits["Max address space"][1]) < 2**32
    assert files <= 4  # its link, and what every process has
    decoder.wait(60)  # it ends with its server's decoders


def test_a_decoder_needs_neither_graphs_nor_training() -> None:
    said = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, service.decoding.nursery; print([m for m in sys.modules if m.split('.')[0] in "
            "('onnxruntime', 'torch', 'fastapi', 'uvicorn')])",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() == "[]"


@pytest.mark.usefixtures("filtered")
def test_the_kernel_is_told_that_no_privilege_comes_back() -> None:
    def check() -> None:
        assert ctypes.CDLL(None).prctl(39, 0, 0, 0, 0) == 1  # PR_GET_NO_NEW_PRIVS

    assert outcome(check) == 0
