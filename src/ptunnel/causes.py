"""The causes of failures that are known, each with what to do about it. The one line of a failed
session and `ptunnel check` draw on this list, and docs/errors.md explains each.

A failure says its cause by id where it is made; one that does not, such as Twisted's and OpenSSL's
in our words, is known by those. Used by handshake and check; imports none of the others.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cause:
    """Why something failed.

    @ivar id: what machines call it; it does not change.
    @ivar words: how messages say it, each on its own enough; `...` is what differs. Empty where
        several causes have the same message.
    @ivar hint: what is likely and what to do; what stands in braces differs.
    """

    id: str
    words: tuple[str, ...]
    hint: str

    def says(self, message: str) -> bool:
        """Whether a message has these words."""
        patterns = (".*".join(map(re.escape, words.split("..."))) for words in self.words)
        return any(re.search(pattern, message) for pattern in patterns)


# Of two that fit a message, the first is its cause.

# The way to the proxy, or to the target where there is none.
PROXY_NAME = Cause(
    "proxy-name",
    ("cannot reach the proxy ...: the name does not resolve",),
    "check the spelling of the proxy's name; some names are known in one network only",
)
TARGET_NAME = Cause(
    "target-name",
    ("cannot reach ...: the name does not resolve",),
    "check the spelling of the target's name; some names are known in one network only",
)
REFUSED = Cause(
    "connection-refused",
    ("cannot reach ...: connection refused",),
    "nothing listens on that port: check host and port, and whether it is running there",
)
NO_ANSWER = Cause(
    "no-answer",
    ("cannot reach ...timed out",),
    "a firewall may drop it, or the machine is down, or it is another network's",
)
NO_ROUTE = Cause(
    "no-route",
    ("cannot reach ...: no route to host", "cannot reach ...: network is unreachable"),
    "check the address, and whether this machine is in the right network",
)

# TLS with a proxy or with the target.
CLOCK = Cause(
    "clock",
    (),
    "this machine's clock is {much}, going by {whom}: set it right",
)
CERTIFICATE_EARLY = Cause(
    "certificate-not-yet-valid",
    ("certificate... is not valid before ",),
    "is this machine's clock right?",
)
CERTIFICATE_EXPIRED = Cause(
    "certificate-expired",
    ("certificate... expired on ",),
    "it must be renewed there, unless this machine's clock is wrong",
)
CERTIFICATE_SELF_SIGNED = Cause(
    "certificate-self-signed",
    ("its certificate is self-signed",),
    "if it is the right one, set ca-file to a copy of it",
)
CERTIFICATE_AUTHORITY = Cause(
    "certificate-authority",
    ("its certificate is from ...not known here",),
    "if it is the right one, set ca-file to a file with its authority's certificate",
)
CERTIFICATE_NAME = Cause(
    "certificate-name",
    ("its certificate is for ..., not for ", "its certificate names no host"),
    "check the host; if it is the right one, set server-name to one of the certificate's names",
)
CERTIFICATE_REFUSED = Cause(
    "certificate",
    ("over TLS: its certificate ", "over TLS: the certificate of "),
    "whoever runs that server must mend it",
)
CLIENT_CERTIFICATE = Cause(
    "client-certificate",
    ("it wants a client certificate", "it refuses our client certificate"),
    "set client-cert and client-key to a certificate that it accepts",
)
NO_TLS = Cause(
    "no-tls",
    (
        "it does not speak TLS",
        "closed in the middle of the handshake",
        "no handshake within ",
    ),
    "is it a plain HTTP proxy, http:// , or a target without TLS?",
)
TLS = Cause(
    "tls",
    ("over TLS: ",),
    "does it speak TLS 1.2 or later? OpenSSL's own words are in the message",
)

# What is there is no HTTP proxy, or a broken one.
SPEAKS_TLS = Cause(
    "speaks-tls",
    (),
    "it speaks TLS: if it is a proxy, it is an https:// one",
)
SSH_SERVER = Cause(
    "ssh-server",
    (),
    "that is an SSH server: check host and port",
)
OTHER_SERVER = Cause(
    "no-proxy",
    ("does not answer as an HTTP proxy",),
    "check the port: is it a SOCKS proxy, or another server?",
)
WEB_SERVER = Cause(
    "web-server",
    (),
    "is that an HTTP proxy, or a web server?",
)
HUNG_UP = Cause(
    "hung-up",
    ("closed the connection without an answer",),
    "is that port an HTTP proxy, and does it serve this machine?",
)
SILENT = Cause(
    "silent-proxy",
    ("did not answer CONNECT ", "did not finish its answer to CONNECT "),
    "either it waits for a target that does not answer, or that port is not an HTTP proxy's",
)
BROKEN = Cause(
    "broken-answer",
    (
        "in the middle of its answer",
        "sent a ",
        "sent more than ",
        "instead of answering",
        "goes on asking who we are",
        "in the midst of the authentication",
    ),
    "what it answers is not HTTP as it should be: look into the proxy's log",
)

# The proxy answers, and refuses.
CREDENTIALS_MISSING = Cause(
    "credentials-missing",
    ("wants credentials",),
    "give a user name and password",
)
CREDENTIALS_REJECTED = Cause(
    "credentials-rejected",
    ("rejects the credentials",),
    "user name or password; several attempts may lock the account",
)
CREDENTIALS_UNAVAILABLE = Cause(
    "credentials-unavailable",
    ("no password for ", "no credentials for "),
    "check where the password comes from",
)
PORT_REFUSED = Cause(
    "port-refused",
    (),
    "squid's default is to allow CONNECT to 443 only; "
    "the proxy's administrator can allow port {port}",
)
TARGET_REFUSED = Cause(
    "target-refused",
    ("the proxy ...refuses ",),
    "the proxy's rules forbid it, as a rule: ask its administrator",
)
TARGET_DOWN = Cause(
    "target-unreachable",
    ("the proxy ...cannot reach ",),
    "the proxy is well: check the target's name and port, and whether it is running",
)

# The tunnel stands, and something is wrong all the same.
NO_STARTTLS = Cause(
    "no-starttls",
    ("the target ... does not offer ", "the target ... refuses "),
    "check the target's port, and whether that server offers TLS on it to everybody",
)
TARGET_PROTOCOL = Cause(
    "target-protocol",
    ("the target ... does not speak ", "the target "),
    "check the target's port, and that starttls names its protocol",
)
TARGET_SILENT = Cause(
    "target-silent",
    ("then silence",),
    "a proxy that inspects what goes through it may wait for TLS here: ask its administrator, or "
    "use the target's TLS port; some servers let clients wait for longer",
)
TARGET_CLOSED = Cause(
    "target-closed",
    ("then the connection was closed", "then the connection was reset"),
    "the target, or a proxy that inspects what goes through it, does not want this connection",
)
IDLE = Cause(
    "idle-close",
    (),
    "proxies close idle connections, some after 60 s: keep-alive messages of the program help",
)

CAUSES: tuple[Cause, ...] = tuple(cause for cause in globals().values() if type(cause) is Cause)
"""All of them, in the order in which they are looked for."""

_BY_ID = {cause.id: cause for cause in CAUSES}


def causeOf(error: BaseException) -> Cause | None:
    """The cause of a failure, where it is known: the one that it names, or the one whose words are
    its own.
    """
    named = _BY_ID.get(getattr(error, "cause", ""))
    if named is not None:
        return named
    message = getattr(error, "message", None) or str(error)
    return next((cause for cause in CAUSES if cause.says(message)), None)
