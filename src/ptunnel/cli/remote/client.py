"""One request to a status address, with limits in time and size.

Whoever answers may be another program, or broken: whatever it does becomes one line.
"""

from __future__ import annotations

import errno
import http.client
import json
import socket
import time
from typing import Any

from ptunnel.cli.remote.place import Address
from ptunnel.config import UnixListen
from ptunnel.errors import PtunnelError, reasonOf
from ptunnel.text import flat, printable

# Seconds for a whole answer. The service answers within one.
PATIENCE = 5.0
# Bytes. The status of 10,000 tunnels has some ten million.
MOST = 64 * 1024 * 1024

STATUS = "/api/v1/"

_NO_TOKEN = "--token-file gives it, or status-token-file in the config file"
_WRONG_TOKEN = "the service has another one than this config file or --token-file"


class Unanswered(PtunnelError):
    """There is no answer, or not from ptunnel."""


class Declined(PtunnelError):
    """ptunnel answers that it does not do it. @ivar code: the status of the answer."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class _Socket(socket.socket):
    """A socket that raises TimeoutError at a time, however often a little comes.

    @ivar end: that time, of time.monotonic.
    """

    end = 0.0

    def limit(self) -> None:
        """Let the next call last until then at most."""
        left = self.end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.settimeout(left)

    def recv_into(self, *args: Any) -> int:
        self.limit()
        return super().recv_into(*args)


class Client:
    """Asks one address. Its methods raise L{Unanswered} or L{Declined}."""

    def __init__(self, address: Address, token: str | None = None) -> None:
        """@param token: that of those who may steer; sent with what changes something."""
        self._address = address
        self._token = token
        self.name = printable(str(address))

    def status(self) -> Any:
        """Return the document of STATUS."""
        document = self.get(STATUS)
        if not (isinstance(document, dict) and isinstance(document.get("state"), str)):
            raise self.stranger("its answer is not a status")
        return document

    def get(self, path: str) -> Any:
        """Return the JSON document at a path."""
        return self._document(self._ask("GET", path, PATIENCE))

    def steer(self, method: str, path: str, seconds: float = PATIENCE) -> Any:
        """Let the service do something.

        The token goes only to a program that answers as ptunnel does.

        @param seconds: for the whole answer.
        @return: the document of its answer; None if it has none.
        """
        self.status()
        body = self._ask(method, path, seconds, steers=True)
        return self._document(body) if body else None

    def _ask(self, method: str, path: str, seconds: float, steers: bool = False) -> bytes:
        headers = {"Host": self._host(), "Connection": "close", "Accept": "application/json"}
        if steers:
            headers["X-Ptunnel"] = "1"
            if self._token is not None:
                headers["Authorization"] = f"Bearer {self._token}"
        try:
            with self._connected(time.monotonic() + seconds) as connected:
                return self._exchange(connected, method, path, headers)
        except TimeoutError:
            raise Unanswered(f"{self.name}: no answer within {seconds:g} s") from None
        except (http.client.HTTPException, ValueError) as e:
            what = flat(str(e))[:80] or type(e).__name__
            raise self.stranger(f"its answer is not HTTP, or is cut off: {what}") from None
        except OSError as e:
            raise Unanswered(f"{self.name}: {reasonOf(e)}") from None

    def _host(self) -> str:
        return "localhost" if isinstance(self._address, UnixListen) else str(self._address)

    def _exchange(
        self, connected: _Socket, method: str, path: str, headers: dict[str, str]
    ) -> bytes:
        connection = http.client.HTTPConnection("localhost")
        connection.sock = connected
        connected.limit()
        connection.request(method, path, headers=headers)
        with connection.getresponse() as response:
            body = response.read(MOST + 1)
            if len(body) > MOST:
                raise self.stranger(f"its answer is larger than {MOST} bytes")
            if response.length:
                raise http.client.IncompleteRead(b"", response.length)
            if response.status // 100 != 2:
                raise self._declined(response.status, response.reason, body)
            return body

    def _declined(self, status: int, reason: str, body: bytes) -> PtunnelError:
        try:
            error = json.loads(body)["error"]
        except (ValueError, LookupError, TypeError, RecursionError):
            error = None
        if not isinstance(error, str):
            return self.stranger(f"it answers {status} {printable(reason)[:80]}".rstrip())
        hint = ""
        if status == 401:
            hint = f"; {_NO_TOKEN if self._token is None else _WRONG_TOKEN}"
        return Declined(status, f"{self.name}: {printable(error)[:500]}{hint}")

    def _document(self, body: bytes) -> Any:
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            raise self.stranger("its answer is not JSON") from None

    def stranger(self, what: str) -> Unanswered:
        """Return the error for an answer that ptunnel does not give."""
        return Unanswered(f"{self.name}: whoever answers there is not ptunnel: {what}")

    def _connected(self, end: float) -> _Socket:
        """@param end: when to give up, by time.monotonic."""
        address = self._address
        if isinstance(address, UnixListen):
            return self._tried(socket.AF_UNIX, address.path, end)
        try:
            found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as e:
            raise Unanswered(f"{self.name}: {reasonOf(e)}") from None
        error: OSError = ConnectionRefusedError(errno.ECONNREFUSED, "")
        for family, _, _, _, place in found:
            try:
                return self._tried(family, place, end)
            except TimeoutError:
                raise
            except OSError as e:
                error = e
        raise self._nobody(error)

    def _tried(self, family: int, place: Any, end: float) -> _Socket:
        connected = _Socket(family, socket.SOCK_STREAM)
        try:
            connected.end = end
            connected.limit()
            connected.connect(place)
        except BaseException as e:
            connected.close()
            if family == socket.AF_UNIX and isinstance(e, OSError):
                raise self._nobody(e) from None
            raise
        return connected

    def _nobody(self, error: OSError) -> Exception:
        """Return the error for a connection that could not be made."""
        if isinstance(error, PermissionError) and isinstance(self._address, UnixListen):
            return Unanswered(
                f"{self.name}: permission denied: this user may not connect to that socket; its "
                "owner may, and whoever its mode lets (status = unix:/path:mode=0660)"
            )
        if isinstance(error, TimeoutError | PermissionError):
            return error
        if isinstance(error, (ConnectionRefusedError, FileNotFoundError)):
            return Unanswered(
                f"{self.name}: nobody answers there ({reasonOf(error)}): no ptunnel with this "
                "status address runs; `ptunnel run` starts one, and --status asks at another"
            )
        return error
