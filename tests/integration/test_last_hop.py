"""Clients that speak no TLS, and targets that demand it: ptunnel does the last hop."""

from __future__ import annotations

import imaplib
import poplib
import signal
import smtplib
import socket
import ssl
import subprocess
from collections.abc import Iterable
from typing import TypeVar

from tests.integration.case import IntegrationTestCase, Peer, RecordingProxy, at, run
from tests.integration.programs import (
    HOST,
    PATIENCE,
    Postfix,
    Postgres,
    Program,
    Ptunnel,
    SecureDovecot,
    Slapd,
    Squid,
    eventually,
    required,
    shared,
)
from tests.support import authority
from tests.support.authority import Pair

TRUSTED = f"tls-ca-file = {authority.authority().cert}"
MESSAGE = "Subject: over TLS\r\n\r\n" + "A line of mail.\r\n" * 20_000


# Dovecot takes a client of its own address for one that needs no TLS, so Squid comes from another.
SQUID = f"{Squid.OPEN}\ntcp_outgoing_address 127.0.0.2"

P = TypeVar("P", bound=Program)


def certified(kind: type[P]) -> P:
    """A program that shows a good certificate."""
    pair = authority.server(HOST)
    return shared(kind, pair.cert, pair.key)


class LastHopCase(IntegrationTestCase):
    def hop(self, port: int, *keys: str, via: str = "corp", trust: str = TRUSTED) -> Ptunnel:
        """ptunnel with a tunnel to a port. @param keys: of the tunnel, beside those of all."""
        corp = f"[proxy corp]\nurl = {at(shared(Squid, SQUID))}"
        tunnel = f"[tunnel test]\nlisten = {HOST}:0\ntarget = {HOST}:{port}\nvia = {via}"
        keys = (*keys, trust) if keys else ()
        return self.ptunnel("--config", self.write("\n".join([corp, tunnel, *keys])))


class DovecotTests(LastHopCase):
    def setUp(self) -> None:
        self.dovecot = certified(SecureDovecot)

    def test_withoutTlsNobodyLogsIn(self) -> None:
        with imaplib.IMAP4(HOST, self.hop(self.dovecot.port).port, PATIENCE) as imap:
            self.assertRaises(imaplib.IMAP4.error, imap.login, "alice", SecureDovecot.PASSWORD)
        pop3 = poplib.POP3(HOST, self.hop(self.dovecot.pop3).port, PATIENCE)
        self.addCleanup(pop3.close)
        self.assertRaises(poplib.error_proto, pop3.user, "alice")

    def test_imapByStarttls(self) -> None:
        self.assertCarriesMail(self.hop(self.dovecot.port, "starttls = imap").port)

    def test_imapByTlsFromTheFirstByteOn(self) -> None:
        self.assertCarriesMail(self.hop(self.dovecot.imaps, "tls = yes").port)

    def test_imapWithoutAProxy(self) -> None:
        for port, key in (self.dovecot.port, "starttls = imap"), (self.dovecot.imaps, "tls = yes"):
            self.assertCarriesMail(self.hop(port, key, via="direct").port)

    def test_pop3ByStarttls(self) -> None:
        self.assertCarriesPop3(self.hop(self.dovecot.pop3, "starttls = pop3").port)

    def test_pop3ByTlsFromTheFirstByteOn(self) -> None:
        self.assertCarriesPop3(self.hop(self.dovecot.pop3s, "tls = yes").port)

    def assertCarriesPop3(self, port: int) -> None:
        with imaplib.IMAP4_SSL(HOST, self.dovecot.imaps, timeout=PATIENCE) as imap:
            imap.login("alice", SecureDovecot.PASSWORD)
            imap.append("INBOX", "", "", MESSAGE.encode())
        pop3 = poplib.POP3(HOST, port, PATIENCE)
        pop3.user("alice")
        pop3.pass_(SecureDovecot.PASSWORD)
        count, _ = pop3.stat()
        _, fetched, _ = pop3.retr(count)
        pop3.quit()
        self.assertTrue(b"\r\n".join([*fetched, b""]) == MESSAGE.encode())

    def test_starttlsWhereTlsIsAwaitedIsOneLineThatSaysSo(self) -> None:
        tunnel = self.hop(self.dovecot.imaps, "starttls = imap", "connect-timeout = 1s")
        self.assertTurnedAway(tunnel.port)
        self.assertOneLine(tunnel, "test: ", f"{HOST}:{self.dovecot.imaps} ", "set tls = yes")


class PostfixTests(LastHopCase):
    def setUp(self) -> None:
        self.postfix = certified(Postfix)

    def test_withoutTlsItTakesNoMail(self) -> None:
        with smtplib.SMTP(HOST, self.hop(self.postfix.port).port, timeout=PATIENCE) as smtp:
            self.assertRaises(smtplib.SMTPSenderRefused, self.send, smtp)

    def test_aMailIsSent(self) -> None:
        tunnel = self.hop(self.postfix.port, "starttls = smtp")
        with smtplib.SMTP(HOST, tunnel.port, timeout=PATIENCE) as smtp:
            self.send(smtp)
        (mail,) = eventually(self.postfix.mail, "the mail is there")
        head, _, body = mail.partition(b"\n\n")
        self.assertIn(b"Subject: over TLS", head)
        self.assertTrue(body == MESSAGE.replace("\r\n", "\n").partition("\n\n")[2].encode())

    def send(self, smtp: smtplib.SMTP) -> None:
        smtp.sendmail("alice@client.test", f"bob@{Postfix.DOMAIN}", MESSAGE)


class PostgresTests(LastHopCase):
    QUERY = "select ssl, repeat('x', 3000000) from pg_stat_ssl where pid = pg_backend_pid()"

    def setUp(self) -> None:
        self.postgres = certified(Postgres)

    def psql(self, port: int, *settings: str, query: str = QUERY) -> list[str]:
        """A command line. @param settings: of the connection."""
        words = [f"host={HOST} port={port} dbname=postgres user={Postgres.USER}", *settings]
        words.append(f"password={Postgres.PASSWORD} connect_timeout={PATIENCE:g}")
        return [required("psql"), "-XAtc", query, " ".join(words)]

    def test_withoutTlsNobodyIsLetIn(self) -> None:
        done = run(*self.psql(self.hop(self.postgres.port).port, "sslmode=disable"))
        self.assertIn(b"no encryption", done.stderr)

    def test_psqlIsLetInWhateverItAsksOfTls(self) -> None:
        tunnel = self.hop(self.postgres.port, "starttls = postgres")
        for settings in (), ("sslmode=disable",), ("sslmode=allow",), ("gssencmode=disable",):
            done = run(*self.psql(tunnel.port, *settings))
            self.assertEqual((done.returncode, done.stderr), (0, b""))
            self.assertTrue(done.stdout == b"t|" + b"x" * 3_000_000 + b"\n")

    def test_psqlWithoutAProxy(self) -> None:
        tunnel = self.hop(self.postgres.port, "starttls = postgres", via="direct")
        self.assertEqual(run(*self.psql(tunnel.port)).stdout[:2], b"t|")

    def test_psqlThatInsistsOnTlsIsToldNo(self) -> None:
        tunnel = self.hop(self.postgres.port, "starttls = postgres")
        done = run(*self.psql(tunnel.port, "sslmode=require"))
        self.assertIn(b"server does not support SSL, but SSL was required", done.stderr)

    def test_aWrongPasswordIsTheServersToRefuse(self) -> None:
        tunnel = self.hop(self.postgres.port, "starttls = postgres")
        done = run(*self.psql(tunnel.port, "user=bob"))
        self.assertIn(b'password authentication failed for user "bob"', done.stderr)

    def test_aQueryIsCancelled(self) -> None:
        port = self.hop(self.postgres.port, "starttls = postgres").port
        sleeping = "select count(*) from pg_stat_activity where query = 'select pg_sleep(60)'"
        command = self.psql(port, query="select pg_sleep(60)")
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as asking:
            self.addCleanup(asking.kill)
            count = self.psql(port, query=sleeping)
            eventually(lambda: run(*count).stdout == b"1\n", "the query runs")
            asking.send_signal(signal.SIGINT)
            _, said = asking.communicate(timeout=PATIENCE)
        self.assertIn(b"canceling statement due to user request", said)


class SlapdTests(LastHopCase):
    def setUp(self) -> None:
        self.slapd = certified(Slapd)

    def search(self, port: int) -> subprocess.CompletedProcess[bytes]:
        login = ["-x", "-D", Slapd.ADMIN, "-w", Slapd.PASSWORD]
        url = f"ldap://{HOST}:{port}"
        return run(required("ldapsearch"), "-LLL", *login, "-H", url, "-b", Slapd.BASE, "o")

    def test_withoutTlsNothingIsFound(self) -> None:
        done = self.search(self.hop(self.slapd.port).port)
        self.assertIn(b"Confidentiality required", done.stderr)

    def test_anEntryIsFound(self) -> None:
        for via in "corp", "direct":
            done = self.search(self.hop(self.slapd.port, "starttls = ldap", via=via).port)
            self.assertEqual((done.returncode, done.stderr), (0, b""))
            self.assertIn(b"o: The Organization", done.stdout)


GREETING, GO = b"* OK hello\r\n", b"ptunnel1 OK go\r\n"
ASKED = b"ptunnel1 STARTTLS\r\n"
SECRET = b"the client's secret"


class Target(Peer):
    """A server that says its turns, each but the first when it has heard something. Then it shows
    a certificate, and echoes under TLS; or it has none, and reads to the end.

    @ivar heard: what it got before TLS, of each connection that has ended.
    @ivar heardSecurely: what it got under TLS.
    """

    def __init__(
        self, turns: Iterable[bytes] = (), pair: Pair | None = None, clientsFrom: Pair | None = None
    ) -> None:
        self.heard: list[bytes] = []
        self.heardSecurely = bytearray()
        self._turns = tuple(turns)
        self._context = None if pair is None else ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if pair is not None and self._context is not None:
            self._context.load_cert_chain(pair.cert, pair.key)
            self._context.set_alpn_protocols(["imap"])
        if clientsFrom is not None and self._context is not None:
            self._context.verify_mode = ssl.CERT_REQUIRED
            self._context.load_verify_locations(clientsFrom.cert)
        self.alpn: str | None = None
        super().__init__(self._serve)

    def _serve(self, connection: socket.socket) -> None:
        heard = b""
        try:
            for number, turn in enumerate(self._turns):
                heard += connection.recv(65536) if number else b""
                connection.sendall(turn)
            if self._context is not None:
                with self._context.wrap_socket(connection, server_side=True) as secure:
                    self.alpn = secure.selected_alpn_protocol()
                    while data := secure.recv(65536):
                        self.heardSecurely += data
                        secure.sendall(data)
            while data := connection.recv(65536) if self._context is None else b"":
                heard += data
        finally:
            self.heard.append(heard)


class Closing(Target):
    """One that closes where others read on."""

    def _serve(self, connection: socket.socket) -> None:
        for number, turn in enumerate(self._turns):
            self.heard.append(connection.recv(65536) if number else b"")
            connection.sendall(turn)


class BadTargetTests(LastHopCase):
    """Targets that there is no way to TLS with: the client, which speaks at once, sees an end, a
    line says why, and nothing of the client's has got there.
    """

    def assertLeadsNowhere(
        self, target: Target, key: str, *parts: str, timeout: str = "30s"
    ) -> None:
        self.addCleanup(target.stop)
        tunnel = self.hop(target.port, key, f"connect-timeout = {timeout}")
        self.assertTurnedAway(tunnel.port)
        self.assertOneLine(tunnel, "warning", "test: ", at(target), *parts)
        eventually(lambda: target.heard, "the target has seen the end")
        self.assertNotIn(SECRET, b"".join(target.heard) + target.heardSecurely)

    def assertNoStarttls(self, target: Target, why: str, kind: str = "imap") -> None:
        self.assertLeadsNowhere(target, f"starttls = {kind}", f"the target {at(target)} {why}")

    def test_itRefuses(self) -> None:
        refusing = Target([GREETING, b"ptunnel1 NO not today\r\n"])
        self.assertNoStarttls(refusing, "refuses STARTTLS: NO not today")
        self.assertEqual(refusing.heard, [ASKED])
        self.assertNoStarttls(Target([b"220 x\r\n", b"250 x\r\n"]), "does not offer", "smtp")
        self.assertNoStarttls(Target([b"", b"N"]), "refuses SSLRequest", "postgres")

    def test_itSpeaksAnotherProtocol(self) -> None:
        self.assertNoStarttls(Target([b"SSH-2.0-OpenSSH_9.2\r\n"]), "does not speak IMAP")
        answer = b"HTTP/1.1 400 Bad Request\r\n\r\n"
        self.assertNoStarttls(Target([b"", answer]), "does not speak LDAP", "ldap")
        self.assertNoStarttls(Target([b"", answer]), "does not speak PostgreSQL", "postgres")

    def test_itSaysMoreBehindItsLastAnswer(self) -> None:
        for turns, kind in (
            ([GREETING, GO + b"* OK [ALERT] injected\r\n"], "imap"),
            ([b"+OK hello\r\n", b"+OK go\r\n+OK injected\r\n"], "pop3"),
            ([b"", b"SE injected\0"], "postgres"),
        ):
            pair = authority.server(HOST)
            self.assertNoStarttls(Target(turns, pair), "sends more behind its last answer", kind)

    def test_itCloses(self) -> None:
        self.assertNoStarttls(Closing([b""]), "closed the connection without a word of IMAP")
        self.assertNoStarttls(Closing([GREETING, b"* 3"]), "closed the connection before TLS")

    def test_itClosesInsteadOfTls(self) -> None:
        why = "over TLS: the connection was closed in the middle of the handshake"
        self.assertLeadsNowhere(Closing([GREETING, GO]), "starttls = imap", why)
        self.assertLeadsNowhere(Closing([b"", b""]), "tls = yes", why)

    def test_itIsSilent(self) -> None:
        for kind in "imap", "postgres":
            target = Target()
            why = f"the target {at(target)} did not come to TLS within 1 s"
            self.assertLeadsNowhere(target, f"starttls = {kind}", why, timeout="1s")

    def test_itIsSilentInsteadOfTls(self) -> None:
        for target, key in (Target([GREETING, GO]), "starttls = imap"), (Target(), "tls = yes"):
            why = f"{at(target)} over TLS: no handshake within 1 s"
            self.assertLeadsNowhere(target, key, why, timeout="1s")

    def test_itSpeaksNoTls(self) -> None:
        why = "over TLS: it does not speak TLS"
        self.assertLeadsNowhere(Target([GREETING, GO, b"* OK and?\r\n"]), "starttls = imap", why)
        self.assertLeadsNowhere(Target([GREETING]), "tls = yes", why)

    def test_itsCertificateIsNoGood(self) -> None:
        for pair, why in (
            (authority.expired(HOST), "its certificate expired on"),
            (authority.server("other.test"), f"is for other.test, not for {HOST}"),
            (authority.selfSigned(HOST), "its certificate is self-signed"),
            (authority.brokenChain(HOST), "its chain is incomplete"),
            (authority.stranger(HOST), "is from an authority that is not known here"),
        ):
            target = Target([GREETING, GO], pair)
            self.assertLeadsNowhere(target, "starttls = imap", "over TLS: ", why)
            self.assertEqual(target.heard, [ASKED])
        # The last of them, by the other way.
        self.assertLeadsNowhere(Target((), pair), "tls = yes", "over TLS: ", why)


class GoodTargetTests(LastHopCase):
    """What else a config can say of the last hop."""

    def target(self, *settings: Pair, turns: Iterable[bytes] = ()) -> Target:
        target = Target(turns, *settings)
        self.addCleanup(target.stop)
        return target

    def test_aClientThatSpeaksAtOnceIsHeardUnderTlsOnly(self) -> None:
        target = self.target(authority.server(HOST), turns=[GREETING, GO])
        proxy = RecordingProxy()
        self.addCleanup(proxy.stop)
        corp = f"[proxy corp]\nurl = {at(proxy)}"
        tunnel = f"[tunnel test]\nlisten = {HOST}:0\ntarget = {at(target)}\nvia = corp"
        config = "\n".join([corp, tunnel, "starttls = imap", TRUSTED])
        with self.dial(self.ptunnel("--config", self.write(config)).port) as client:
            client.sendall(SECRET)
            expected = b"* OK ready\r\n" + SECRET
            received = b""
            while len(received) < len(expected) and (data := client.recv(100)):
                received += data
        self.assertEqual(received, expected)
        self.assertTrue(proxy.passed.startswith(ASKED + b"\x16\x03"), proxy.passed[:40])
        self.assertNotIn(SECRET, proxy.passed)

    def test_aTargetIsTrustedByTheNameThatTheConfigGivesIt(self) -> None:
        target = self.target(authority.server("other.test"))
        tunnel = self.hop(target.port, "tls = yes", "tls-server-name = other.test")
        self.assertEchoes(tunnel.port)

    def test_anyCertificateDoesWhereTheConfigSaysSoAndAWarningToo(self) -> None:
        target = self.target(authority.selfSigned("other.test"))
        tunnel = self.hop(target.port, "tls = yes", "tls-verify = no")
        self.assertEchoes(tunnel.port)
        self.assertOneLine(tunnel, "warning", "[tunnel test]", "tls-verify = no")

    def test_aTargetIsShownACertificateAndOfferedAProtocol(self) -> None:
        target = self.target(authority.server(HOST), authority.authority())
        both = f"tls-client-cert = {authority.client().both}"
        self.assertEchoes(self.hop(target.port, "tls = yes", both, "tls-alpn = imap").port)
        self.assertEqual(target.alpn, "imap")

    def test_bulkPassesUnderTls(self) -> None:
        target = self.target(authority.server(HOST))
        self.assertCarriesBulk(self.hop(target.port, "tls = yes").port)
