"""What a run may have of this machine's memory: all of it, or what a container or a batch job is limited to (Linux cgroups)."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

MEMBERSHIP = Path("/proc/self/cgroup")
"""The groups that this process is in, a line each: `0::/path` (version 2) or `4:memory:/path` (version 1)."""
GROUPS = Path("/sys/fs/cgroup")


def usable_memory(membership: Path = MEMBERSHIP, groups: Path = GROUPS) -> int:
    """Bytes."""
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([whole, *_limits(membership, groups)])


def _limits(membership: Path, groups: Path) -> Iterator[int]:
    """Of this process's groups, and of those that they are in: the smallest holds. A container sees its own group as the outermost,
    whatever its path is outside."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:  # no Linux
        return
    for _, controllers, path in (line.split(":", 2) for line in lines):
        if not controllers:
            root, name = groups, "memory.max"
        elif "memory" in controllers.split(","):
            root, name = groups / "memory", "memory.limit_in_bytes"
        else:
            continue
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(root):
                with suppress(OSError, ValueError):  # not to be seen from here; "max"
                    yield int((folder / name).read_text())
