"""A real local HTTP server that plays an OpenAI-compatible endpoint: each request is answered as the script says."""

import json
import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def completion(content, finish="stop"):
    """The body of a chat completion whose message is `content`."""
    message = {"role": "assistant", "content": content}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}


def says(content, finish="stop"):
    return lambda handler: handler.reply(200, completion(content, finish))


def grades(score):
    return says(json.dumps({"score": score}))


def status(code, **headers):
    return lambda handler: handler.reply(code, {"error": {"message": f"status {code}"}}, headers)


def not_json(handler):
    handler.reply(200, b"<html>a proxy's page</html>")


def half_a_body(handler):
    """Promises more than it sends, then hangs up."""
    whole = json.dumps(completion('{"score": 1.0}')).encode()
    handler.head(200, len(whole))
    handler.wfile.write(whole[: len(whole) // 2])


def hangs_up(handler):
    """Closes the connection without a word."""
    handler.close_connection = True


def never(handler):
    """Takes the request and says nothing for as long as the server lives."""
    handler.server.closing.wait()


def drips(handler):
    """A byte now and then: no single wait is long, and the reply never ends."""
    handler.head(200, 10**6)
    while not handler.server.closing.wait(0.02):
        handler.wfile.write(b" ")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.requests.append(body)
            number = len(self.server.requests) - 1
        script = self.server.script
        with suppress(BrokenPipeError, ConnectionResetError):
            script[min(number, len(script) - 1)](self)

    def reply(self, code, body, headers=None):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.head(code, len(body), headers)
        self.wfile.write(body)

    def head(self, code, length, headers=None):
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(length))
        self.send_header("Connection", "close")
        for name, value in (headers or {}).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.close_connection = True

    def log_message(self, *args):
        pass


@contextmanager
def serve(*script, port=0):
    """A server that answers its n-th request with the n-th action, the last one for all further requests; at a free port
    where none is given.

    Yields the server, with `url` and `requests` (the bodies that came).
    """
    server = ThreadingHTTPServer(("127.0.0.1", port), _Handler)
    server.daemon_threads = True
    server.script, server.requests = script, []
    server.lock, server.closing = threading.Lock(), threading.Event()
    server.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
