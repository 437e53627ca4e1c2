"""Proxies over TLS that demand a binding to it, as those of Windows with extended protection do."""

from __future__ import annotations

import hashlib
import os
import ssl
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.trial.unittest import SkipTest

from tests.integration.case import IntegrationTestCase, Peer, at, echo, headOf
from tests.integration.programs import HOST, Ptunnel
from tests.support import authority
from tests.support.authority import Pair

try:
    import spnego
    from spnego.channel_bindings import GssChannelBindings
    from spnego.exceptions import SpnegoError
except ImportError as e:
    raise SkipTest("pyspnego is not there") from e

USER = "alice"
PASSWORD = "s3cret-of-alice"


class DemandingProxy(Peer):
    """A proxy over TLS that knows one account, and wants its answers bound to the connection. It
    greets those that it lets pass.

    @ivar told: how each exchange ended.
    """

    def __init__(self, title: str, pair: Pair, bound: Pair | None = None) -> None:
        """
        @param title: `NTLM` or `Negotiate`.
        @param bound: whose certificate is to be bound in, if not its own.
        """
        super().__init__(self._serve)
        self.told: list[str] = []
        self._title = title
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(pair.cert, pair.key)
        der = ssl.PEM_cert_to_DER_cert(Path((bound or pair).cert).read_text())
        data = b"tls-server-end-point:" + hashlib.sha256(der).digest()
        self._bindings = GssChannelBindings(application_data=data)

    def _serve(self, client: Any) -> None:
        with self._context.wrap_socket(client, server_side=True) as secured:
            context = self._newContext()
            while head := headOf(secured):
                offer = self._title.encode()
                token = head.partition(b"\r\nProxy-Authorization: %b " % offer)[2].split(b"\r\n")[0]
                if token:
                    try:
                        answer = context.step(b64decode(token))
                    except SpnegoError as e:
                        self.told.append(type(e).__name__)
                        context = self._newContext()
                    else:
                        if context.complete:
                            self.told.append("accepted")
                            secured.sendall(b"HTTP/1.1 200 OK\r\n\r\nwelcome")
                            secured.recv(100)
                            return
                        offer += b" " + b64encode(answer or b"")
                secured.sendall(
                    b"HTTP/1.1 407 Who\r\nProxy-Authenticate: %b\r\nContent-Length: 0\r\n\r\n"
                    % offer
                )

    def _newContext(self) -> Any:
        kinds = spnego.NegotiateOptions
        isNtlm = self._title == "NTLM"
        return spnego.server(
            hostname=HOST,
            service="HTTP",
            protocol=self._title.lower(),
            channel_bindings=self._bindings,
            options=kinds.use_ntlm if isNtlm else kinds.use_negotiate,
        )


class ExtendedProtectionTests(IntegrationTestCase):
    def setUp(self) -> None:
        users = self.write(f"TEST:{USER}:{PASSWORD}\n")
        patch = mock.patch.dict(os.environ, {"NTLM_USER_FILE": users})
        patch.start()
        self.addCleanup(patch.stop)

    def through(self, proxy: Peer, *keys: str) -> Ptunnel:
        self.addCleanup(proxy.stop)
        lines = [
            f"[proxy corp]\nurl = https://{at(proxy)}\nusername = TEST\\{USER}",
            f"password-file = {self.write(PASSWORD)}",
            f"ca-file = {authority.authority().cert}",
            *keys,
        ]
        return self.configured(
            "\n".join(lines), self.peer(echo), environment={"NTLM_USER_FILE": ""}
        )

    def test_whatTheyDemandIsThereForEachTunnel(self) -> None:
        for title in "NTLM", "Negotiate":
            proxy = DemandingProxy(title, authority.server(HOST))
            tunnel = self.through(proxy)
            for _ in range(2):  # asked, and unasked
                with self.dial(tunnel.port) as client:
                    self.assertEqual(client.recv(100), b"welcome")
            self.assertEqual(tunnel.end(), 0)
            self.assertEqual(tunnel.lines(), [])
            self.assertEqual(proxy.told, ["accepted"] * 2)

    def test_whoeverStandsBetweenIsTurnedAway(self) -> None:
        # It has a certificate that is trusted, but not that of the proxy to which it passes on.
        for title in "NTLM", "Negotiate":
            proxy = DemandingProxy(title, authority.server(HOST), authority.server("right.example"))
            self.assertTurnedAway(self.through(proxy).port)
            self.assertEqual(set(proxy.told), {"BadBindingsError"})
