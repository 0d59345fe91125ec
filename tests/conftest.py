"""Here so that this folder is on the path of every test: several areas share `vllm_server.py`."""

from hypothesis import settings

# How long an example takes says how loaded the machine is.
settings.register_profile("sv6d", deadline=None)
settings.load_profile("sv6d")
