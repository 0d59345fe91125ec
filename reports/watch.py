"""`sv6d report RUN --watch`: the page on localhost, rendered anew whenever the runs' files change, while training goes on.

The open page asks for news and takes the new parts over; it keeps zoom, filters and what was unfolded.
"""

from __future__ import annotations

import contextlib
import html
import json
import logging
import os
import stat
import threading
import time
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from .page import gather, plotly, render
from .runs import RunError, load_run

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
HOSTS = ("127.0.0.1", "localhost")
"""A name that someone else pointed at this machine gets no answer: the page is for who sits here."""
PASSED_BY = ("checkpoints", "__pycache__")
"""Folders of a run that no report reads."""
WAITING = """<!doctype html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="2">
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,"><title>Waiting for the run</title>
<style>body {{ max-width: 46rem; margin: 15vh auto; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif; }}</style></head>
<body><main><h1>Waiting for the run</h1><p>Nothing to show yet. This page looks again every two seconds.</p>
{sentences}</main></body></html>"""


class Watched:
    """The newest page of runs that still grow. `look` is called by one thread, the rest by those of the server."""

    def __init__(self, runs: Sequence[Path]):
        self.runs = tuple(runs)
        self.version = 0
        self.page = ""
        self.trouble = ""
        self._rendered_at = ""
        self._seen: object = None
        self.look()

    def look(self) -> bool:
        """Renders the page anew if a file has changed since the last look; True when it did."""
        found = [signature(run) for run in self.runs]
        if found == self._seen:
            return False
        self._seen = found
        loaded, waits = [], []
        for run in self.runs:
            try:
                loaded.append(load_run(run))
            except RunError as error:
                waits.append(str(error))
        if loaded:
            self.page = render(gather(loaded), live=self.version + 1)
        else:
            self.page = WAITING.format(sentences="".join(f"<p>{html.escape(text)}</p>" for text in waits))
        self.trouble = f"; waiting for {len(waits)} more" if loaded and waits else ""
        self._rendered_at = time.strftime("%H:%M:%S")
        self.version += 1
        return True

    def news(self) -> dict[str, object]:
        return {"version": self.version, "said": f"live, updated {self._rendered_at}{self.trouble}"}


def signature(run: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of every file that a report may read: it differs when there is something new."""
    files = [str(run)]  # a run may be a single file
    for folder, folders, names in os.walk(run):
        folders[:] = [name for name in folders if name not in PASSED_BY]
        files += [os.path.join(folder, name) for name in names]
    found = []
    for file in files:
        with contextlib.suppress(FileNotFoundError):  # renamed meanwhile, as a part is when it is whole
            status = os.stat(file)
            found += [(file, status.st_size, status.st_mtime_ns)] * stat.S_ISREG(status.st_mode)
    return sorted(found)


class Server(ThreadingHTTPServer):
    """Answers on localhost alone: `/` the page, `/news` its version, `/plotly.js`.

    Raises:
        OSError: the port is taken.
    """

    daemon_threads = True

    def __init__(self, watched: Watched, port: int):
        self.watched = watched
        super().__init__(("127.0.0.1", port), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        watched = self.server.watched
        if self.headers.get("Host", "").rsplit(":", 1)[0] not in HOSTS:
            self.send_error(HTTPStatus.FORBIDDEN, "the report is served to this machine alone")
        elif self.path == "/":
            self._send(watched.page, "text/html")
        elif self.path == "/news":
            self._send(json.dumps(watched.news()), "application/json")
        elif self.path == "/plotly.js":
            self._send(plotly(), "text/javascript", "max-age=86400")
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def _send(self, text: str, kind: str, cache: str = "no-store") -> None:
        body = text.encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", cache)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        log.debug(format, *args)


def follow(server: Server) -> None:
    """Serves, looking at the runs' files every second, until it is interrupted (KeyboardInterrupt)."""
    threading.Thread(target=server.serve_forever, name="sv6d-report", daemon=True).start()
    try:
        while True:
            try:
                server.watched.look()
            except Exception:  # a file caught half-way: the page that was stays, and the next change is looked at
                log.exception("the page could not be rendered anew")
                server.watched.trouble = "; the last change could not be read, see the terminal"
            time.sleep(LOOK_SECONDS)
    finally:
        server.shutdown()
        server.server_close()
