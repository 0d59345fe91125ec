"""A small dataset of real footage and a random tiny model: what a run of a few steps needs."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def small_data(tmp_path_factory) -> Path:
    from sv6d.recipes.demo.dataset import write_dataset

    out = tmp_path_factory.mktemp("small-data")
    write_dataset(out, per_task=8, sft_per_task=2, heldout_per_task=1, seed=0)
    return out


@pytest.fixture(scope="session")
def tiny_model(small_data, tmp_path_factory) -> Path:
    from sv6d.data_mixers.rows import read_rows
    from sv6d.recipes.demo.model import build_model, corpus_of

    out = tmp_path_factory.mktemp("tiny") / "model"
    rows = [
        row
        for part in ("sft", "rl", "heldout")
        for path in (small_data / part).glob("*.parquet")
        for row in read_rows(path)
    ]
    build_model(corpus_of(rows), out)
    return out


@pytest.fixture(scope="session")
def sv6d_command():
    """Start the `sv6d` command as a user does; returns the process."""

    def start(*arguments) -> subprocess.Popen:
        return subprocess.Popen(
            [Path(sys.executable).with_name("sv6d"), *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start
