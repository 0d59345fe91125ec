"""A real vLLM server on this machine's processor, at a free port, for as long as a test needs it."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager

ENVIRONMENT = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_NO_USAGE_STATS": "1"}
OPTIONS = (
    "--enforce-eager --dtype float32 --max-model-len 4096 --max-num-seqs 8 "
    # JSON may hold any white space, and a weak model goes on with it until its tokens are spent.
    '--structured-outputs-config {"backend":"xgrammar","disable_any_whitespace":true}'
)
START_SECONDS = 180


@contextmanager
def serve(model, name, log, *options):
    """
    Args:
        model: folder of the model.
        name: what it is asked for by.
        log: the file that the server writes to; its end is told where the server does not start.

    Yields:
        The address of its OpenAI-compatible interface.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    vllm = os.path.join(os.path.dirname(sys.executable), "vllm")
    address = ["--served-model-name", name, "--host", "127.0.0.1", "--port", str(port)]
    with log.open("w") as file:
        server = subprocess.Popen(
            [vllm, "serve", model, *address, *OPTIONS.split(), *options],
            env={**os.environ, **ENVIRONMENT},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait_until_ready(server, f"http://127.0.0.1:{port}/health", log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.terminate()
            server.wait(timeout=60)


def _wait_until_ready(server, address, log):
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        assert server.poll() is None, log.read_text()[-3000:]
        try:
            return urllib.request.urlopen(address, timeout=5)
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"not ready after {START_SECONDS} s: {log.read_text()[-3000:]}")
