"""What a process gives up before it touches media of a stranger. Linux only."""

from __future__ import annotations

import errno
import os
import resource
from contextlib import suppress
from pathlib import Path

try:
    import pyseccomp
except (ImportError, OSError, RuntimeError):  # of the package, or of the C library that it looks for
    pyseccomp = None

_NOBODY = 65534
_OPEN_FILES = 32

# Refused to a decoder: the network, other processes, files, and what the kernel is attacked through. It keeps memory,
# threads, clocks, and the descriptors that it has.
_REFUSED = (
    *("socket", "socketpair", "connect", "bind", "listen", "accept", "accept4"),
    *(
        "execve",
        "execveat",
        "fork",
        "vfork",
        "ptrace",
        "process_vm_readv",
        "process_vm_writev",
        "pidfd_getfd",
    ),
    *("kill", "tkill", "pidfd_send_signal", "rt_sigqueueinfo"),
    *("open", "openat", "openat2", "creat", "open_by_handle_at", "truncate", "unlink", "unlinkat"),
    *(
        "rename",
        "renameat",
        "renameat2",
        "mkdir",
        "mkdirat",
        "rmdir",
        "link",
        "linkat",
        "symlink",
        "symlinkat",
    ),
    *(
        "chmod",
        "fchmod",
        "fchmodat",
        "chown",
        "fchown",
        "fchownat",
        "lchown",
        "mknod",
        "mknodat",
        "chdir",
        "fchdir",
    ),
    *(
        "mount",
        "umount2",
        "pivot_root",
        "chroot",
        "unshare",
        "setns",
        "setuid",
        "setgid",
        "setresuid",
        "setresgid",
    ),
    *("bpf", "perf_event_open", "userfaultfd", "keyctl", "add_key", "request_key", "io_uring_setup"),
    *("init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "reboot", "swapon"),
)
_NEW_THREAD = 0x10000  # CLONE_THREAD


def confine(memory_bytes: int) -> None:
    """Bound memory and files, become nobody where this is root, and give up all but computing.

    Whatever the system does not have is left out; `missing` says what.
    """
    _bound(resource.RLIMIT_CORE, 0)
    _bound(resource.RLIMIT_FSIZE, 0)
    _bound(resource.RLIMIT_NOFILE, _OPEN_FILES)
    _bound(resource.RLIMIT_AS, _address_space() + memory_bytes)
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    if pyseccomp:
        _refuse_calls()


def missing() -> list[str]:
    """What this system lacks, for people."""
    return [] if pyseccomp else ["system calls are not filtered: libseccomp is not installed"]


def allow_processor_time(seconds: int) -> None:
    """The process may run for so many more seconds."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used = int(usage.ru_utime + usage.ru_stime) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (used + seconds, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _bound(kind: int, most: int) -> None:
    hard = resource.getrlimit(kind)[1]
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    resource.setrlimit(kind, (most, most))


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def _refuse_calls() -> None:
    rules = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    for call in _REFUSED:
        # One that this processor or this libseccomp does not know.
        with suppress(OSError, RuntimeError, ValueError):
            rules.add_rule(pyseccomp.ERRNO(errno.EPERM), call)
    # Threads, but no processes. The flags of `clone3` cannot be seen: without it, `clone` is used.
    rules.add_rule(pyseccomp.ERRNO(errno.ENOSYS), "clone3")
    another = pyseccomp.Arg(0, pyseccomp.MASKED_EQ, _NEW_THREAD, 0)
    rules.add_rule(pyseccomp.ERRNO(errno.EPERM), "clone", another)
    rules.load()
