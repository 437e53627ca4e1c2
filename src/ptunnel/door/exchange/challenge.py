"""A 407 to a request that was forwarded, as a failure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from ptunnel.auth.challenges import ChallengeError, parseChallenges
from ptunnel.auth.choice import titlesOf
from ptunnel.connect import refusals
from ptunnel.errors import CredentialsRefused
from ptunnel.net.addresses import hostPort
from ptunnel.net.asked import Request


def refusalOf(
    request: Request,
    hop: str,
    reason: bytes,
    values: Sequence[bytes],
    isTold: bool,
    secrets: Sequence[bytes],
) -> CredentialsRefused:
    """Return the failure if a challenge cannot be answered.

    @param hop: the proxy. @param reason: that of its status line.
    @param values: those of Proxy-Authenticate.
    @param isTold: whether the request carried credentials. @param secrets: never shown.
    """
    target = hostPort(request.host, request.port)
    asked = refusals.Asked(request.host, request.port, target, hop, isTold, secrets)
    try:
        offers = () if isTold else titlesOf(parseChallenges(values))
    except ChallengeError:
        offers = ()
    head = b"HTTP/1.1 407 %b\r\n\r\n" % reason
    return cast(CredentialsRefused, refusals.refusalOf(asked, head, b"", offers))
