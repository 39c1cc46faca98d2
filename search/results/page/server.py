"""Serves the page of some studies on this machine alone; the page asks for what has changed since."""

import threading
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from search.config.errors import ConfigError
from search.results.page.data import Source
from search.results.page.writing import payload, render

HOST = "127.0.0.1"
PORT = 8050
TRIES = 20  # ports, where none is asked for
FRESH = 2.0  # seconds for which what was read is shown to whoever asks
SHARE = 0.1  # of the time that reading may take


class PageServer(ThreadingHTTPServer):
    """`serve_forever` until it is shut down. Raises ConfigError where the port cannot be had; 0 takes any that is free.

    Without a port the first that is free from PORT on.
    """

    daemon_threads = True

    def __init__(self, sources: Sequence[Source], port: int | None = None) -> None:
        self.sources, self._lock, self._until = sources, threading.Lock(), 0.0
        self._studies: list[dict[str, Any]] = []
        ports = range(PORT, PORT + TRIES) if port is None else [port]
        for one in ports:
            try:
                return super().__init__((HOST, one), _Handler)
            except (OSError, OverflowError) as error:
                reason = error
        named = f"port {port}" if port is not None else f"none of the ports {PORT} to {PORT + TRIES - 1}"
        raise ConfigError(f"{named} can be had on {HOST} ({reason}): give another with --port") from reason

    @property
    def address(self) -> str:
        """Where a browser finds it."""
        return f"http://{HOST}:{self.server_port}/"

    def studies(self) -> list[dict[str, Any]]:
        """What there is to show; read anew when it is no longer fresh."""
        with self._lock:
            began = time.monotonic()
            if began >= self._until:
                self._studies = [source.data() for source in self.sources]
                now = time.monotonic()
                self._until = now + max(FRESH, (now - began) / SHARE)
            return self._studies


class _Handler(BaseHTTPRequestHandler):
    server: PageServer

    def do_GET(self) -> None:
        """The page, or its data; 204 for data with the mark that the page has."""
        asked = urlsplit(self.path)
        if self.headers.get("Host", "").rpartition(":")[0] not in (HOST, "localhost"):  # another site's name for us
            return self._answer(403, "text/plain", "only as 127.0.0.1 or localhost")
        if asked.path == "/":
            return self._answer(200, "text/html", render(self.server.studies(), "fetch"))
        if asked.path != "/data.json":
            return self._answer(404, "text/plain", "there is / and /data.json")
        text, mark = payload(self.server.studies(), "fetch")
        if parse_qs(asked.query).get("mark") == [mark]:
            return self._answer(204, "application/json", "")
        return self._answer(200, "application/json", text)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _answer(self, status: int, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)
