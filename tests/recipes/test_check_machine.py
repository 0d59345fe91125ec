"""What a run may have of a machine's memory, from files as Linux writes them."""

import os

import pytest
from sv6d.recipes.checking.machine import usable_memory

WHOLE = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def machine(tmp_path):
    """Writes which groups this process is in, and their limits by path; returns what may be used."""

    def machine(membership, limits):
        (tmp_path / "membership").write_text(membership)
        for path, limit in limits.items():
            file = tmp_path / "groups" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{limit}\n")
        return usable_memory(tmp_path / "membership", tmp_path / "groups")

    return machine


@pytest.mark.parametrize(
    ("membership", "limits", "bytes_"),
    [
        ("0::/\n", {"memory.max": 1000}, 1000),  # in a container: its own group is the outermost
        ("0::/job_7/step_0\n", {"job_7/memory.max": 2000, "job_7/step_0/memory.max": "max"}, 2000),  # Slurm: the job's
        ("0::/job_7/step_0\n", {"job_7/memory.max": 2000, "job_7/step_0/memory.max": 500}, 500),
        ("4:memory:/docker/a\n0::/\n", {"memory/docker/a/memory.limit_in_bytes": 3000}, 3000),
        ("4:memory:/docker/a\n", {"memory/memory.limit_in_bytes": 3000}, 3000),  # a path that is not seen from inside
        ("4:cpu,cpuacct:/a\n", {"cpu/a/memory.limit_in_bytes": 1}, WHOLE),
        ("0::/\n", {"memory.max": "max"}, WHOLE),
        ("4:memory:/\n", {"memory/memory.limit_in_bytes": 9223372036854771712}, WHOLE),  # version 1 without a limit
        ("", {}, WHOLE),
    ],
)
def test_memory_is_the_machines_or_what_the_smallest_group_around_leaves(membership, limits, bytes_, machine):
    assert machine(membership, limits) == bytes_


def test_a_machine_without_cgroups_is_used_whole(tmp_path):
    assert usable_memory(tmp_path / "none", tmp_path / "none") == WHOLE
