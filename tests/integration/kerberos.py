"""A Kerberos realm of one key distribution centre, and a Squid in it. Used by
test_authentication.
"""

from __future__ import annotations

import importlib.util
import itertools
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.integration.programs import (
    HOST,
    NO_PROXY_SETTINGS,
    PATIENCE,
    Program,
    SquidWithLogin,
    lacking,
    required,
    shared,
)

REALM = "PTUNNEL.TEST"
# A name, not an address, is what a ticket is asked for; this one resolves everywhere.
SERVICE_HOST = "localhost"
SERVICE = f"HTTP/{SERVICE_HOST}"
USER = "alice"
PASSWORD = "kerberos-password"


def gssapiRequired() -> None:
    """As `required`, for the extra that ptunnel needs for Kerberos."""
    if importlib.util.find_spec("gssapi") is None:
        lacking("gssapi is not installed: pip install ptunnel[negotiate]")


class KeyDistributionCentre(Program):
    """MIT Kerberos' krb5kdc, which knows one user and one service."""

    def __init__(self, name: str = "") -> None:
        """@param name: tells it from another one, which has other keys for the same realm."""
        self._tickets = itertools.count()
        super().__init__()

    def environment(self) -> Mapping[str, str]:
        return {
            "KRB5_CONFIG": f"{self.folder}/krb5.conf",
            "KRB5_KDC_PROFILE": f"{self.folder}/kdc.conf",
        }

    def arguments(self) -> list[str]:
        self.write(
            "krb5.conf",
            f"""
[libdefaults]
    default_realm = {REALM}
    dns_lookup_realm = false
    dns_lookup_kdc = false
    dns_canonicalize_hostname = false
    rdns = false
    udp_preference_limit = 1
[realms]
    {REALM} = {{
        kdc = {HOST}:{self.port}
    }}
[domain_realm]
    {SERVICE_HOST} = {REALM}
""",
        )
        self.write(
            "kdc.conf",
            f"""
[kdcdefaults]
    kdc_listen = {HOST}:{self.port}
    kdc_tcp_listen = {HOST}:{self.port}
[realms]
    {REALM} = {{
        database_name = {self.folder}/principal
        key_stash_file = {self.folder}/stash
        max_life = 1h
    }}
""",
        )
        self._run("kdb5_util", "create", "-s", "-r", REALM, "-P", "master-password")
        self._administer(f"addprinc -pw {PASSWORD} {USER}")
        self._administer(f"addprinc -randkey {SERVICE}")
        return [required("krb5kdc"), "-n"]

    def writeKeytab(self, path: Path) -> None:
        """Write the key of the service."""
        self._administer(f"ktadd -norandkey -k {path} {SERVICE}")

    def withoutTicket(self) -> dict[str, str]:
        """The environment of a user of the realm who has no ticket."""
        cache = self.folder / f"cache-{next(self._tickets)}"
        return {"KRB5_CONFIG": f"{self.folder}/krb5.conf", "KRB5CCNAME": f"FILE:{cache}"}

    def withTicket(self) -> dict[str, str]:
        """The environment of somebody who has just proved to be USER."""
        environment = self.withoutTicket()
        self.renew(environment)
        return environment

    def renew(self, environment: Mapping[str, str]) -> None:
        """Prove to be USER, in an environment that was made before."""
        self._run("kinit", USER, stdin=PASSWORD, environment=environment)

    def _administer(self, query: str) -> None:
        self._run("kadmin.local", "-q", query)

    def _run(
        self, name: str, *words: str, stdin: str = "", environment: Mapping[str, str] | None = None
    ) -> None:
        done = subprocess.run(
            [required(name), *words],
            input=stdin,
            env={**NO_PROXY_SETTINGS, **self.environment(), **(environment or {})},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        if done.returncode:
            raise AssertionError(f"{name}: {done.stdout}{done.stderr}")


class SquidWithNegotiate(SquidWithLogin):
    """Squid for those who have a ticket of the realm. It must be called SERVICE_HOST.

    @ivar centre: whose tickets are meant for it.
    """

    def __init__(self, keys: str = "") -> None:
        """@param keys: the name of the centre that it has its key of; not "": a wrong one."""
        self.centre = shared(KeyDistributionCentre)
        self._keys = shared(KeyDistributionCentre, keys) if keys else self.centre
        super().__init__()

    def authentication(self) -> str:
        helper = required("negotiate_kerberos_auth", "/usr/lib/squid")
        self._keys.writeKeytab(self.folder / "keytab")
        return f"""
            auth_param negotiate program {helper} -s {SERVICE}@{REALM}
            auth_param negotiate children 10 startup=1 idle=1
        """

    def environment(self) -> Mapping[str, str]:
        return {
            "KRB5_CONFIG": f"{self.centre.folder}/krb5.conf",
            "KRB5_KTNAME": f"{self.folder}/keytab",
            "KRB5RCACHEDIR": str(self.folder),  # where it remembers tickets, against replays
        }
