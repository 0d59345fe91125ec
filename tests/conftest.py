"""Here so that this folder is on the path of every test: several areas share `vllm_server.py`."""
