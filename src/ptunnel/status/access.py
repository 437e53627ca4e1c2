"""Which requests are served, and which may steer.

A browser sends requests for whatever page is open in it. So a page of somebody else must be able to
do nothing here: not read, by a name of its own that leads to this machine (DNS rebinding), and not
steer, by a form or a script.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Callable, Iterable

from twisted.internet.interfaces import IReactorTime

from ptunnel.errors import ConfigError
from ptunnel.filestamp import stampOf
from ptunnel.log import Log
from ptunnel.status.answers import Asked, refuse

LOOPBACK = ("localhost", "127.0.0.1", "::1")
HEADER = "X-Ptunnel"
"""What a request over a Unix socket needs to steer. No form of a page can send it."""

# Seconds in which wrong tokens are logged once.
EPISODE = 60.0

_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:/@\[\]]*))(?::[0-9]{0,5})?")
_OFF = (
    "nobody can steer here: set status-token-file, or listen on a Unix socket "
    "(status = unix:/path), and see docs/status.md"
)
_NO_SITE = "a page of another site asks, which may neither read nor steer"
_MISDIRECTED = "this is not the name of a status address; set status-hosts to serve it"


class Token:
    """Compares with the token of a file."""

    def __init__(self, path: str, read: Callable[[], str], log: Log) -> None:
        """
        @param read: reads and checks the file.
        @raise ConfigError: from `read`.
        """
        self._path = path
        self._read = read
        self._log = log
        self._stamp = stampOf(path)
        self._token: str | None = read()

    def fits(self, given: str) -> bool:
        """Return whether this is the token, in a time that does not depend on it.

        @return: False too while the file cannot be used, which is logged once.
        """
        self._renew()
        if self._token is None:
            return False
        return hmac.compare_digest(self._token.encode(), given.encode("utf-8"))

    def _renew(self) -> None:
        stamp = stampOf(self._path)
        if stamp == self._stamp and stamp is not None:
            return
        if stamp is None and self._token is None:
            return  # it is still missing, which has been said
        self._stamp = stamp
        try:
            self._token = self._read()
        except ConfigError as e:
            self._token = None
            self._log.error("", f"{e}; nobody can steer with a token until it is mended")


class Access:
    """Decides by the settings of one moment."""

    def __init__(
        self, hosts: Iterable[str], token: Token | None, log: Log, clock: IReactorTime
    ) -> None:
        """
        @param hosts: names under which the address is reached, beside its own and the loopback's.
        @param token: None: over TCP nobody may steer.
        """
        self._hosts = {*map(canonical, hosts), *LOOPBACK}
        self._token = token
        self._log = log
        self._clock = clock
        self._quietUntil = 0.0

    def check(self, asked: Asked) -> None:
        """@raise Refused: if a request is not to be served at all."""
        host = self._checkHost(asked)
        origin = asked.header("Origin")
        if origin is not None and (host is None or _siteOf(origin) != asked.header("Host")):
            refuse(403, _NO_SITE)
        isOther = asked.header("Sec-Fetch-Site") not in (None, "same-origin", "none")
        if isOther and not _opens(asked):
            refuse(403, _NO_SITE)

    def _checkHost(self, asked: Asked) -> str | None:
        """@return: the host of a request; None if it names none."""
        written = asked.header("Host")
        if written is None:
            if asked.version == "HTTP/1.1":
                refuse(400, "the header Host is missing")
            # A balancer asks so. A browser always has a Host.
            if asked.here is not None and asked.path not in (("healthz",), ("readyz",)):
                refuse(421, "the header Host is missing")
            return None
        host = hostOf(written)
        if host is None:
            refuse(400, "the header Host has no valid host")
        if not self._isOurs(host, asked.here):
            refuse(421, _MISDIRECTED)
        return host

    def _isOurs(self, host: str, here: str | None) -> bool:
        """@param here: the address to which the client has connected; None: a Unix socket."""
        if host in self._hosts:
            return True
        if here is not None:
            return host == canonical(here)
        # It may be forwarded from a port (ssh -L), which a name of the Internet may lead to.
        return "." not in host or _isAddress(host)

    def maySteer(self, asked: Asked) -> bool:
        """Return whether a request that steers would be allowed to the sender of this one."""
        if asked.here is None:
            return True
        given = _bearer(asked)
        return given is not None and self._token is not None and self._token.fits(given)

    def checkSteering(self, asked: Asked) -> None:
        """@raise Refused: if a request may not steer."""
        given = _bearer(asked)
        if asked.here is None:
            if given is None and asked.header(HEADER) is None:
                refuse(403, f"the header {HEADER}: 1 is missing, without which nobody steers")
            return
        if self._token is None:
            refuse(403, _OFF)
        challenge = {"WWW_Authenticate": 'Bearer realm="ptunnel"'}
        if given is None:
            refuse(401, "a token is needed: Authorization: Bearer TOKEN", **challenge)
        if not self._token.fits(given):
            self._sayWrong(asked.client)
            refuse(401, "this is not the token", **challenge)

    def _sayWrong(self, client: str) -> None:
        now = self._clock.seconds()
        if now >= self._quietUntil:
            self._quietUntil = now + EPISODE
            self._log.warning("", f"status: a request of {client} had a wrong token")


def canonical(host: str) -> str:
    """Return a name or an address for comparison."""
    host = host.lower().removesuffix(".")
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    return str(getattr(address, "ipv4_mapped", None) or address)


def hostOf(written: str) -> str | None:
    """Return the canonical host of a header Host; None if it has none."""
    match = _HOST.fullmatch(written)
    return None if match is None else canonical(match[1] or match[2])


def _isAddress(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _siteOf(origin: str) -> str | None:
    """Return the host and port of an Origin, as a header Host has them."""
    scheme, _, site = origin.partition("://")
    return site if scheme in ("http", "https") else None


def _opens(asked: Asked) -> bool:
    """Return whether somebody follows a link to the page, which a page of others may have."""
    isPage = asked.method == "GET" and asked.path == ("",)
    mode, dest = asked.header("Sec-Fetch-Mode"), asked.header("Sec-Fetch-Dest")
    return isPage and mode == "navigate" and dest == "document"


def _bearer(asked: Asked) -> str | None:
    """Return the token of a request; None if it has none."""
    scheme, _, token = (asked.header("Authorization") or "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None
