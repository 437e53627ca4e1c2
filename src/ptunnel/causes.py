"""The known causes of failures, each with a hint. The line of a failed session and `ptunnel check`
show the hint, and docs/errors.md explains each cause.

A failure carries its cause. This module imports no module that makes failures.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cause:
    """Why something failed.

    @ivar id: its name for machines; it does not change.
    @ivar hint: the likely reason and what to do; the words in braces are filled in.
    """

    id: str
    hint: str


# The way to the proxy, or to the target of a direct connection.
PROXY_NAME = Cause(
    "proxy-name",
    "check the spelling of the proxy's name; some names are known in one network only",
)
TARGET_NAME = Cause(
    "target-name",
    "check the spelling of the target's name; some names are known in one network only",
)
REFUSED = Cause(
    "connection-refused",
    "nothing listens on that port: check host and port, and whether it is running there",
)
NO_SOCKET = Cause(
    "no-socket",
    "check the path, whether that program is running, and whether this user may connect to it",
)
NO_ANSWER = Cause(
    "no-answer",
    "a firewall may drop it, or the machine is down, or it is another network's",
)
NO_ROUTE = Cause(
    "no-route",
    "check the address, and whether this machine is in the right network",
)
OWN_SHORTAGE = Cause(
    "own-shortage",
    "this machine has run out, not the proxy: {remedy}",
)
OWN_RULES = Cause(
    "own-rules",
    "a firewall, sandbox or security module of this machine forbids it",
)
DRAINED = Cause(
    "drained",
    "it was drained by whoever steers this service; undrain it there, or restart",
)
LEADS_BACK = Cause(
    "leads-back",
    "remove its line from the hosts file: this tunnel connects directly",
)

# The PAC file that says which proxy to take.
PAC_UNAVAILABLE = Cause(
    "pac-unavailable",
    "check the url of the PAC file; some are reached in one network only",
)
PAC_BROKEN = Cause(
    "pac-broken",
    "whoever wrote the PAC file must mend it; ptunnel check shows what it answers",
)
PAC_SLOW = Cause(
    "pac-slow",
    "it loops, or does far too much; whoever wrote it must mend it",
)
PAC_DIRECT = Cause(
    "pac-direct",
    "if that is right, write direct behind it in via (or --direct)",
)

# The way from the client.
LISTEN_TAKEN = Cause(
    "listen-taken",
    "give the tunnel another port, or stop what listens there",
)

CLIENT_PROTOCOL = Cause(
    "client-protocol",
    "check what that program is set to: a door is a SOCKS5 proxy, and an HTTP proxy without TLS",
)
CLIENT_LOGIN = Cause(
    "client-login",
    "check the user name and password that it is set to against those of the door",
)
TARGET_FORBIDDEN = Cause(
    "target-forbidden",
    "the key targets of the door says what may be asked for: by default all but this machine",
)

# TLS with a proxy or with the target.
CLOCK = Cause(
    "clock",
    "this machine's clock is {much}, going by {whom}: set it right",
)
CERTIFICATE_EARLY = Cause(
    "certificate-not-yet-valid",
    "is this machine's clock right?",
)
CERTIFICATE_EXPIRED = Cause(
    "certificate-expired",
    "it must be renewed there, unless this machine's clock is wrong",
)
CERTIFICATE_SELF_SIGNED = Cause(
    "certificate-self-signed",
    "if it is the right one, set ca-file to a copy of it",
)
CERTIFICATE_AUTHORITY = Cause(
    "certificate-authority",
    "if it is the right one, set ca-file to a file with its authority's certificate",
)
CERTIFICATE_CHAIN = Cause(
    "certificate-chain",
    "either its chain is incomplete and must be mended there, or ca-file must name a file with "
    "that authority's certificate",
)
CERTIFICATE_NAME = Cause(
    "certificate-name",
    "check the host; if it is the right one, set server-name to one of the certificate's names",
)
CERTIFICATE = Cause(
    "certificate",
    "whoever runs that server must mend it",
)
CLIENT_CERTIFICATE = Cause(
    "client-certificate",
    "set client-cert and client-key to a certificate that it accepts",
)
NO_TLS = Cause(
    "no-tls",
    "is it a plain HTTP proxy, http:// ?",
)
TARGET_NO_TLS = Cause(
    "target-no-tls",
    "check the target's port: it may want starttls, or no TLS",
)
TLS_VERSION = Cause(
    "tls-version",
    "that server is too old, or set to be: whoever runs it must mend it",
)
TLS_HANDSHAKE = Cause(
    "tls-handshake",
    "it may want a client certificate, client-cert, or ciphers that are not offered",
)
TLS_NAME = Cause(
    "tls-name",
    "check the host; if it is the right one, set server-name to a name that it knows",
)
TLS_FILES = Cause(
    "tls-files",
    "it is a file of ours: see ca-file, client-cert and client-key",
)
TLS = Cause(
    "tls",
    "that server's log may say more",
)

# The server is not an HTTP proxy, or a broken one.
SPEAKS_TLS = Cause(
    "speaks-tls",
    "it speaks TLS: if it is a proxy, it is an https:// one",
)
SSH_SERVER = Cause(
    "ssh-server",
    "that is an SSH server: check host and port",
)
OTHER_SERVER = Cause(
    "no-proxy",
    "check the port: is it a SOCKS proxy, or another server?",
)
WEB_SERVER = Cause(
    "web-server",
    "is that an HTTP proxy, or a web server?",
)
HUNG_UP = Cause(
    "hung-up",
    "is that port an HTTP proxy, and does it serve this machine?",
)
SILENT = Cause(
    "silent-proxy",
    "either it waits for a target that does not answer, or that port is not an HTTP proxy's",
)
BROKEN = Cause(
    "broken-answer",
    "what it answers is not HTTP as it should be: look into the proxy's log",
)

# The server is not a SOCKS proxy, or a broken one.
NO_SOCKS = Cause(
    "no-socks",
    "is that port a SOCKS proxy's, and does it serve this machine? an HTTP proxy is written http://",
)
SPEAKS_HTTP = Cause(
    "speaks-http",
    "it speaks HTTP: if it is a proxy, it is an http:// one",
)
BROKEN_SOCKS = Cause(
    "broken-socks",
    "what it answers is not SOCKS5 as it should be: look into the proxy's log",
)

# The proxy answers and refuses.
CREDENTIALS_MISSING = Cause(
    "credentials-missing",
    "give a user name and password",
)
CREDENTIALS_REJECTED = Cause(
    "credentials-rejected",
    "user name or password; several attempts may lock the account",
)
CREDENTIALS_UNAVAILABLE = Cause(
    "credentials-unavailable",
    "check where the password comes from",
)
SCHEME_NOT_SERVED = Cause(
    "scheme-not-served",
    "none of the ways in which it asks who we are can be used: see auth, and ptunnel's extras",
)
PORT_REFUSED = Cause(
    "port-refused",
    "squid's default is to allow CONNECT to 443 only; "
    "the proxy's administrator can allow port {port}",
)
TARGET_REFUSED = Cause(
    "target-refused",
    "the proxy's rules forbid it, as a rule: ask its administrator",
)
TARGET_DOWN = Cause(
    "target-unreachable",
    "the proxy is well: check the target's name and port, and whether it is running",
)
ADDRESS_TYPE = Cause(
    "address-type",
    "it takes no addresses of that kind: socks5h:// lets it look the name up, socks5:// does that "
    "here",
)
PROXY_OVERLOADED = Cause(
    "proxy-overloaded",
    "the proxy has too much to do, or what it needs is down: try again later, or by another proxy",
)

# The tunnel stands, but something else is wrong.
NO_STARTTLS = Cause(
    "no-starttls",
    "check the target's port, and whether that server offers TLS on it to everybody",
)
TARGET_PROTOCOL = Cause(
    "target-protocol",
    "check the target's port, and that starttls names its protocol",
)
AWAITS_TLS = Cause(
    "target-awaits-tls",
    "if it awaits TLS from the first byte on, set tls = yes and no starttls",
)
TARGET_SILENT = Cause(
    "target-silent",
    "a proxy that inspects what goes through it may wait for TLS here: ask its administrator, or "
    "use the target's TLS port; some servers let clients wait for longer",
)
TARGET_CLOSED = Cause(
    "target-closed",
    "the target, or a proxy that inspects what goes through it, does not want this connection",
)
IDLE = Cause(
    "idle-close",
    "proxies close idle connections, some after 60 s: keep-alive messages of the program help",
)

CAUSES: tuple[Cause, ...] = tuple(cause for cause in globals().values() if type(cause) is Cause)
"""All causes."""
