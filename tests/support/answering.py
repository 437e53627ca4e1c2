"""A program behind a status address: it answers each request with the bytes that a test gives."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable
from typing import Any

PATIENCE = 60.0

Script = Callable[[socket.socket, str], None]

STATUS: dict[str, Any] = {
    "version": "1.2.3",
    "pid": 4711,
    "state": "running",
    "started": "2026-11-21T10:25:47+0000",
    "uptime_seconds": 93784.5,
    "may_steer": True,
    "sessions": 3,
    "sessions_total": 17,
    "connecting": 1,
    "failures_total": 2,
    "refused_total": 1,
    "bytes_sent": 1234567,
    "bytes_received": 2345678901,
    "descriptors": {"used": 20, "limit": 1024},
    "workers": [{"number": 1, "pid": 4712, "ready": True}, {"number": 2, "pid": 0, "ready": False}],
    "tunnels": [
        {
            "name": "imap",
            "listen": "127.0.0.1:9993",
            "target": "imap.example.com:993",
            "via": ["corp", "direct"],
            "drained": False,
            "sessions": 3,
            "connecting": 1,
            "sessions_total": 17,
            "connected_total": 14,
            "left_total": 0,
            "refused_total": 1,
            "failures": {"refused": 1, "unknown": 1},
            "ends": {"end": 11},
            "bytes_sent": 1234567,
            "bytes_received": 2345678901,
            "connect_seconds": {"count": 14, "sum": 1.4, "p50": 0.034, "p90": 0.5, "p99": 1.25},
        },
        {"name": "\x1b[2Jsmtp", "listen": "unix:/run/smtp", "target": "smtp.example.com:587"},
    ],
    "proxies": [
        {
            "name": "corp",
            "address": "proxy.example.com:3128",
            "well": False,
            "trouble": "connection refused",
            "drained": False,
            "scheme": "basic",
            "rejection": None,
            "connected_total": 14,
            "failures": {"refused": 2},
            "connect_seconds": {"count": 0, "sum": 0, "p50": None, "p90": None, "p99": None},
            "last_error": "no\nway",
            "last_error_time": "2026-11-21T10:26:00+0000",
        }
    ],
    "events": [
        {"time": "2026-11-21T10:25:48+0000", "level": "notice", "tunnel": "imap", "message": "up"},
        {"time": "2026-11-21T10:26:00+0000", "level": "warning", "tunnel": "", "message": "a\x1bb"},
    ],
}
SESSIONS: dict[str, Any] = {
    "total": 2,
    "sessions": [
        {
            "number": 7,
            "client": "127.0.0.1:50000",
            "tunnel": "imap",
            "way": "corp",
            "phase": "joined",
            "seconds": 75.5,
            "bytes_sent": 1000,
            "bytes_received": 2000000,
            "rate": 1500.0,
        },
        {
            "number": 8,
            "client": "127.0.0.1:50001",
            "tunnel": "imap",
            "way": None,
            "phase": "connecting",
            "seconds": 0.5,
            "bytes_sent": 0,
            "bytes_received": 0,
            "rate": None,
        },
    ],
}


def answer(body: bytes = b"", status: str = "200 OK", kind: str = "application/json") -> bytes:
    """An answer of HTTP with its whole body."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Connection: close\r\n\r\n".encode() + body


def asJSON(document: Any, status: str = "200 OK") -> bytes:
    return answer(json.dumps(document).encode(), status)


class Answering:
    """It listens on a free port of 127.0.0.1, or on a path.

    @ivar requests: the first line of each request, in order.
    @ivar heads: the whole of each.
    """

    def __init__(self, script: Script, path: str = "") -> None:
        """@param script: called in a thread with each connection and the request's first line."""
        self.requests: list[str] = []
        self.heads: list[str] = []
        self._script = script
        if path:
            self._server = socket.socket(socket.AF_UNIX)
            self._server.bind(path)
            self._server.listen()
            self.address = f"unix:{path}"
        else:
            self._server = socket.create_server(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._server.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                threading.Thread(target=self._talk, args=(client,), daemon=True).start()

    def _talk(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            client.settimeout(PATIENCE)
            head = b""
            while b"\r\n\r\n" not in head:
                if not (data := client.recv(65536)):
                    return
                head += data
            first = head.decode("latin-1").split("\r\n")[0].removesuffix(" HTTP/1.1")
            self.requests.append(first)
            self.heads.append(head.decode("latin-1"))
            self._script(client, first)


def service(**documents: Any) -> Script:
    """A script that answers as a service does.

    @param documents: by a word in the request's path, a document or an answer, of the others those
        above.
    """
    answers = {"sessions": SESSIONS, "": STATUS, **documents}

    def script(client: socket.socket, first: str) -> None:
        known = sorted(answers.items(), reverse=True)
        found = next(answer for word, answer in known if word in first)
        client.sendall(found if isinstance(found, bytes) else asJSON(found))

    return script
