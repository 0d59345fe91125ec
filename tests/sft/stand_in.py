"""A stand-in for the model that annotates or writes: a real HTTP server with OpenAI's form whose answers a test chooses; and
Ctrl-C while a command waits for it."""

import itertools
import json
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace


def first_tags(schema, body=None):
    """An answer that keeps to the schema: the first tag of everything."""
    return {
        name: [s["items"]["enum"][0]] if s.get("type") == "array" else s["enum"][0]
        for name, s in schema["properties"].items()
    }


@contextmanager
def stand_in(answer=first_tags, logprob=-0.01, status=lambda number: 200):
    """
    Args:
        answer: (JSON schema, the whole request) -> what is answered (an object, or a text as it is).
        logprob: of each token; or a function (token, place in the text) -> it; None: no logprobs at all.
        status: number of the request, from 1 -> its HTTP status.

    Yields:
        address, and requests: what was asked, in order.
    """
    asked, lock = [], threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                asked.append(body)
                code = status(len(asked))
            told = answer(body["response_format"]["json_schema"]["schema"], body) if code == 200 else {"error": "no"}
            self._send(
                code, _reply(told if isinstance(told, str) else json.dumps(told), logprob) if code == 200 else told
            )

        def _send(self, code, told):
            payload = json.dumps(told).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield SimpleNamespace(address=f"http://127.0.0.1:{server.server_port}/v1", requests=asked)
    finally:
        server.shutdown()
        server.server_close()


def _reply(text, logprob):
    tokens, at = [], 0
    while at < len(text):
        token = text[at : at + 3]
        tokens.append(
            {"token": token, "logprob": logprob(token, at) if callable(logprob) else logprob, "top_logprobs": []}
        )
        at += 3
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    choice["logprobs"] = None if logprob is None else {"content": tokens}
    return {"id": "x", "object": "chat.completion", "created": 0, "model": "stand-in", "choices": [choice]}


ENDED = """
import sys, threading
import sv6d.{module} as module
class Told(threading.Event):
    def set(self):
        super().set()
        print("ended", flush=True)
module.Event = Told
from sv6d.recipes.cli import main
main()
"""
"""A command that says when it has understood that it is to end."""


def interrupted(module, words, answer, number):
    """Ends a command by Ctrl-C while it waits for its answer of that number; how many were asked when it was gone."""
    asked, understood = threading.Event(), threading.Event()
    counted = itertools.count(1)

    def slow(schema, body):
        if next(counted) == number:
            asked.set()
            understood.wait(60)
        return answer(schema, body)

    with stand_in(slow) as model:
        program = [sys.executable, "-c", ENDED.format(module=module), *map(str, words), "--endpoint", model.address]
        run = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert asked.wait(120)
        run.send_signal(signal.SIGINT)
        assert run.stdout.readline() == "ended\n"
        understood.set()
        run.communicate(timeout=120)
        return len(model.requests), run.returncode
