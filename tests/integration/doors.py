"""Doors behind proxies that want to know who one is."""

from __future__ import annotations

from collections.abc import Mapping

from tests.integration.case import IntegrationTestCase, at
from tests.integration.kerberos import (
    SERVICE_HOST,
    KeyDistributionCentre,
    SquidWithNegotiate,
    gssapiRequired,
)
from tests.integration.programs import (
    HOST,
    Ptunnel,
    SquidWithDigest,
    SquidWithNtlm,
    SquidWithPassword,
    shared,
)

USER, PASSWORD = "alice", "a-word-of-alices"
# Nothing else: a browser has much to say to its maker.
TARGETS = "targets = 127.0.0.0/8:*, localhost:*"


class DoorCase(IntegrationTestCase):
    """Starts doors."""

    def behind(
        self, proxy: str, *keys: str, environment: Mapping[str, str] | None = None
    ) -> Ptunnel:
        """ptunnel with a door. @param proxy: lines of [proxy corp]. @param keys: of the door."""
        section = ["[door test]", f"listen = {HOST}:0", TARGETS, "via = corp", *keys]
        config = self.write("\n".join(["[proxy corp]", proxy, *section]))
        more = {} if environment is None else {"environment": environment}
        return self.ptunnel("--config", config, **more)

    def known(self, kind: type[SquidWithPassword], password: str = PASSWORD) -> Ptunnel:
        """One behind a squid that knows USER and PASSWORD."""
        url = f"url = http://{at(shared(kind, USER, PASSWORD))}"
        return self.behind(f"{url}\nusername = {USER}\npassword-file = {self.write(password)}")

    def withTicket(self) -> Ptunnel:
        """One with a Kerberos ticket, behind a squid of the same realm."""
        gssapiRequired()
        environment = shared(KeyDistributionCentre).withTicket()
        url = f"url = http://{SERVICE_HOST}:{shared(SquidWithNegotiate).port}"
        return self.behind(url, environment=environment)

    def knownDoors(self) -> list[Ptunnel]:
        """One behind a squid of each kind: Digest, NTLM, Negotiate."""
        return [self.known(SquidWithDigest), self.known(SquidWithNtlm), self.withTicket()]
