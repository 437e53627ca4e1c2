"""Upgrades of a plaintext connection to a server into TLS, for a client that speaks no TLS.

An L{Upgrade} is the server's side of what comes before TLS, as bytes in, bytes out; it knows no
reactor. Who uses it

    1. sends what `begin` returns, and feeds it what the server sends, until it says L{Ready};
    2. does TLS with the server, and verifies it;
    3. shows the client the `greeting`; or, where there is a L{Prelude}, feeds it what the client
       sends, and then has it look through what the server answers;
    4. joins the two.

Nothing of the client is read before 3, so nothing of it goes out in clear, whatever the server
does.
"""

from __future__ import annotations

from ptunnel.starttls.ldap import Ldap
from ptunnel.starttls.lines import Ftp, Imap, Pop3, Smtp
from ptunnel.starttls.postgres import Postgres, Prelude
from ptunnel.starttls.upgrade import Ready, Upgrade, UpgradeRefused
from ptunnel.starttls.xmpp import Xmpp

UPGRADES: dict[str, type[Upgrade]] = {
    kind.name: kind for kind in (Imap, Pop3, Smtp, Postgres, Ldap, Xmpp, Ftp)
}

__all__ = ["UPGRADES", "Prelude", "Ready", "Upgrade", "UpgradeRefused"]
