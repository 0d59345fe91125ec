"""Here so that this folder is on the path of every test: several areas share `vllm_server.py`."""

import sys

import pytest
from hypothesis import settings

# How long an example takes says how loaded the machine is.
settings.register_profile("sv6d", deadline=None)
settings.load_profile("sv6d")


@pytest.fixture(scope="module", autouse=True)
def no_ray_left():
    """A process has one Ray at a time: one that a file leaves would be joined by the next file, whichever that is."""
    yield
    ray = sys.modules.get("ray")
    assert ray is None or not ray.is_initialized(), "this file leaves a Ray in the process; end it with ray.shutdown()"
