"""How many processor cores this process may use: fewer than the host has, in a container or under taskset."""

from __future__ import annotations

import math
import os
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")


def available_cores() -> int:
    """Cores of the affinity mask and of the cgroup's quota, whichever is less; part of a core counts as one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cores, *(math.ceil(quota) for quota in _quotas(_ROOT, _OWN))]))


def _quotas(root: Path, own: Path) -> list[float]:
    """Cores that each cgroup from this process's own up to the root of the mount lets it use."""
    groups = [line.split(":", 2)[1:] for line in _read(own).splitlines()]
    places = [(root, path) for controllers, path in groups if not controllers]
    places += [(root / "cpu", path) for controllers, path in groups if "cpu" in controllers.split(",")]
    # In a container the path may be that of the host, while the mount shows the container's own group as its root.
    folders = {at for mount, path in places for at in _upwards(mount, path)}
    return [quota for folder in folders if (quota := _quota(folder))]


def _upwards(mount: Path, path: str) -> list[Path]:
    folder = mount / path.lstrip("/")
    return [mount, folder, *(parent for parent in folder.parents if mount in parent.parents)]


def _quota(folder: Path) -> float | None:
    limit, _, period = _read(folder / "cpu.max").partition(" ")
    if not period:
        limit, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
    try:
        cores = int(limit) / int(period)
    except (ValueError, ZeroDivisionError):
        return None
    return cores if cores > 0 else None


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
