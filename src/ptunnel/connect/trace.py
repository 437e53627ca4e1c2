"""A CONNECT request and the answers to it, as lines of a trace, with secrets masked."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ptunnel.auth.choice import SCHEMES
from ptunnel.connect.request import USER_AGENT
from ptunnel.log import Trace
from ptunnel.log.excerpts import MASK, maskedHead

# The most lines of an answer's head that are shown, and the most characters of each.
MAX_LINES = 50
MAX_SHOWN = 300

# The fields of a request whose values do not come from the user.
_OURS = frozenset([b"host", b"proxy-connection"])
_TITLES = frozenset(kind.title for kind in SCHEMES)
# The fields of an answer whose values others could use: a session, a proof of the password.
_SECRET = frozenset(
    ["set-cookie", "set-cookie2", "proxy-authentication-info", "authentication-info"]
)
# A challenge's token, in the middle of NTLM or Negotiate, helps to guess the password.
_TOKEN = re.compile(r"(?i)((?:negotiate|ntlm|kerberos) +)[^\s,]+")


def showRequest(trace: Trace, proxy: str, request: bytes) -> None:
    """Show a request, without the values of the fields that a user has set.

    @param proxy: what failures call the proxy.
    """
    trace(f"asks {proxy}:")
    first, *fields = request.strip().split(b"\r\n")
    trace(f"> {first.decode('ascii', 'replace')}")
    for field in fields:
        name, _, value = field.partition(b":")
        value = value.strip()
        isOurs = name.lower() in _OURS or (name, value) == USER_AGENT
        if isOurs:
            shown = value.decode("ascii", "replace")
        else:
            scheme = value.partition(b" ")[0].decode("ascii", "replace")
            isKnown = name.lower() == b"proxy-authorization" and scheme in _TITLES
            shown = f"{scheme} {MASK}" if isKnown else MASK
        trace(f"> {name.decode('ascii', 'replace')}: {shown}")


def showAnswer(trace: Trace, head: bytes, secrets: Sequence[bytes]) -> None:
    """Show the head of an answer; of a long one the beginning.

    @param secrets: never shown, in whatever spelling.
    """
    lines = maskedHead(head, secrets)
    for line in lines[:MAX_LINES]:
        trace(f"< {_shown(line)[:MAX_SHOWN]}")
    if len(lines) > MAX_LINES:
        trace("< ...")


def _shown(line: str) -> str:
    name = line.partition(":")[0].strip()
    if name.lower() in _SECRET:
        return f"{name}: {MASK}"
    if name.lower() == "proxy-authenticate":
        return _TOKEN.sub(rf"\g<1>{MASK}", line)
    return line
