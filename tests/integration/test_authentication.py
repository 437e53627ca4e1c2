"""Proxies that want to know who one is: real ones for each scheme, by what their logs say."""

from __future__ import annotations

import contextlib
import socket
from abc import abstractmethod
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from tests.integration.case import (
    IntegrationTestCase,
    Peer,
    RecordingProxy,
    at,
    echo,
    headOf,
)
from tests.integration.kerberos import (
    SERVICE_HOST,
    KeyDistributionCentre,
    SquidWithNegotiate,
    gssapiRequired,
)
from tests.integration.programs import (
    IN_CLEAR,
    Program,
    Ptunnel,
    Squid,
    SquidWithDigest,
    SquidWithEveryPassword,
    SquidWithFakeNtlm,
    SquidWithNtlm,
    SquidWithPassword,
    eventually,
    shared,
)

USER = "alice"
PASSWORD = "p@ss:w/rd 100%41"
WRONG = "another-password"
CLIENTS = 200


class Carrying:
    """What every scheme does for those whom the proxy knows."""

    # What the proxy is asked with by the first tunnel, and what by each later one.
    first: list[str]
    later: list[str]

    @abstractmethod
    def proxy(self) -> Squid:
        """The proxy that knows us."""

    @abstractmethod
    def known(self, target: Program | Peer) -> Ptunnel:
        """ptunnel with a tunnel through that proxy, and what it takes to be known."""

    def test_mailAndBulkPass(self) -> None:
        self.assertCarries(self.known)

    def test_theProxyIsAskedOnceAndThenToldUnasked(self) -> None:
        target = self.peer(echo)
        tunnel = self.known(target)
        for _ in range(3):
            self.assertEchoes(tunnel.port)
        self.assertEqual(tunnel.end(), 0)
        self.assertEqual(tunnel.lines(), [])
        schemes = [seen.scheme for seen in self.proxy().seen(at(target))]
        self.assertEqual(schemes, self.first + 2 * self.later)


class Rejecting:
    """What every scheme does for those whom the proxy does not know."""

    @abstractmethod
    def stranger(self, target: Program | Peer) -> tuple[Squid, Ptunnel]:
        """A proxy, and ptunnel with a tunnel through it and what it rejects."""

    def test_manyClientsAtOnceCostOneAttempt(self) -> None:
        target = self.peer(echo)
        proxy, tunnel = self.stranger(target)
        clients = [self.dial(tunnel.port) for _ in range(CLIENTS)]
        for client in clients:
            with contextlib.suppress(ConnectionError):
                client.sendall(b"the client's secret")
        for client in clients:
            with contextlib.suppress(ConnectionResetError):
                self.assertEqual(client.recv(100), b"")
        self.assertEqual(tunnel.end(), 0)
        schemes = [seen.scheme for seen in proxy.seen(at(target))]
        self.assertEqual([scheme for scheme in schemes if scheme != "-"], self.later)
        self.assertEqual(target.connections, 0)
        lines = tunnel.lines()
        self.assertEqual(len(lines), CLIENTS)
        for line in lines:
            self.assertIn(f":{proxy.port} rejects the credentials", line)


class WithPassword(Carrying, Rejecting):
    """The schemes that a password serves."""

    kind: type[SquidWithPassword]

    def proxy(self) -> SquidWithPassword:
        return shared(self.kind, USER, PASSWORD)

    def known(self, target: Program | Peer) -> Ptunnel:
        return self.tunnelWith(target, PASSWORD)

    def stranger(self, target: Program | Peer) -> tuple[Squid, Ptunnel]:
        return self.proxy(), self.tunnelWith(target, WRONG)

    def tunnelWith(self, target: Program | Peer, password: str) -> Ptunnel:
        return self.configured(corp(self.proxy(), passwordFile=self.write(password)), target)


class BasicTests(WithPassword, IntegrationTestCase):
    kind = SquidWithPassword
    first = ["-", "Basic"]
    later = ["Basic"]

    def test_thatItGoesInClearIsSaidOnce(self) -> None:
        tunnel = self.known(self.peer(echo))
        for _ in range(3):
            self.assertEchoes(tunnel.port)
        self.assertEqual(tunnel.end(), 0)
        (line,) = (line for line in tunnel.output().splitlines() if IN_CLEAR in line)
        self.assertIn(f" warning proxy corp: the proxy {at(self.proxy())} ", line)


class DigestTests(WithPassword, IntegrationTestCase):
    kind = SquidWithDigest
    first = ["-", "Digest"]
    later = ["Digest"]

    def test_aNonceThatIsUsedUpIsReplaced(self) -> None:
        target = self.peer(echo)
        tunnel = self.known(target)
        tunnels = 4 * SquidWithDigest.NONCE_COUNT
        for _ in range(tunnels):
            self.assertEchoes(tunnel.port)
        self.assertEqual(tunnel.end(), 0)
        self.assertEqual(tunnel.lines(), [])
        seen = self.proxy().seen(at(target))
        self.assertEqual([one.scheme for one in seen[:2]], self.first)
        self.assertEqual({one.scheme for one in seen[1:]}, {"Digest"})
        self.assertEqual(len([one for one in seen if one.status == 200]), tunnels)
        self.assertGreater(len(seen), tunnels + 1)  # or no nonce was ever used up


class NtlmTests(WithPassword, IntegrationTestCase):
    kind = SquidWithNtlm
    first = ["-", "NTLM 1", "NTLM 3"]
    later = ["NTLM 1", "NTLM 3"]


class FakeNtlmTests(Carrying, IntegrationTestCase):
    """With the challenges of another author."""

    first = NtlmTests.first
    later = NtlmTests.later

    def proxy(self) -> Squid:
        return shared(SquidWithFakeNtlm)

    def known(self, target: Program | Peer) -> Ptunnel:
        return self.configured(corp(self.proxy(), passwordFile=self.write(PASSWORD)), target)


class NegotiateTests(Carrying, Rejecting, IntegrationTestCase):
    """A Kerberos ticket, of a realm of its own."""

    first = ["-", "Negotiate"]
    later = ["Negotiate"]

    def setUp(self) -> None:
        gssapiRequired()
        self.centre = shared(KeyDistributionCentre)

    def proxy(self) -> Squid:
        return shared(SquidWithNegotiate)

    def known(self, target: Program | Peer) -> Ptunnel:
        return self.tunnelWith(self.proxy(), target, self.centre.withTicket())

    def stranger(self, target: Program | Peer) -> tuple[Squid, Ptunnel]:
        proxy = shared(SquidWithNegotiate, "another centre")
        return proxy, self.tunnelWith(proxy, target, self.centre.withTicket())

    def test_withoutATicketNothingIsTriedAndALineSaysSo(self) -> None:
        target = self.peer(echo)
        tunnel = self.tunnelWith(self.proxy(), target, self.centre.withoutTicket())
        self.assertTurnedAway(tunnel.port)
        self.assertOneLine(tunnel, f":{self.proxy().port}", "Kerberos")
        self.assertEqual([seen.scheme for seen in self.proxy().seen(at(target))], ["-"])

    def test_aTicketThatComesLaterServes(self) -> None:
        environment = self.centre.withoutTicket()
        tunnel = self.tunnelWith(self.proxy(), self.peer(echo), environment)
        self.assertTurnedAway(tunnel.port)
        self.centre.renew(environment)
        eventually(lambda: self.echoes(tunnel.port), "the ticket serves")

    def tunnelWith(
        self, proxy: Program, target: Program | Peer, environment: Mapping[str, str]
    ) -> Ptunnel:
        config = f"[proxy corp]\nurl = http://{SERVICE_HOST}:{proxy.port}\n"
        return self.configured(config, target, environment=environment)

    def echoes(self, port: int) -> bool:
        """Whether the client of a new tunnel gets back what it sends."""
        with self.dial(port) as client, contextlib.suppress(ConnectionError):
            client.sendall(b"ping")
            return client.recv(100) == b"ping"
        return False


class ChoiceTests(IntegrationTestCase):
    def setUp(self) -> None:
        self.proxy = shared(SquidWithEveryPassword, USER, PASSWORD)
        self.target = self.peer(echo)

    def schemesOf(self, *more: str) -> list[str]:
        config = corp(self.proxy, passwordFile=self.write(PASSWORD))
        tunnel = self.configured("\n".join([config, *more]), self.target)
        self.assertEchoes(tunnel.port)
        self.assertEqual(tunnel.end(), 0)
        return [seen.scheme for seen in self.proxy.seen(at(self.target))]

    def test_theStrongestSchemeThatIsOfferedIsTaken(self) -> None:
        self.assertEqual(self.schemesOf(), ["-", "Digest"])

    def test_theSchemeOfTheConfigIsTaken(self) -> None:
        self.assertEqual(self.schemesOf("auth = ntlm"), ["-", "NTLM 1", "NTLM 3"])

    def test_basicIsSentUnaskedWhereItIsTheSchemeOfTheConfig(self) -> None:
        self.assertEqual(self.schemesOf("auth = basic"), ["Basic"])


class OddProxy(Peer):
    """A proxy that asks for Basic in a way of its own, and greets those whom it knows.

    @ivar schemes: what each request came with; "-": nothing.
    """

    def __init__(self, answer: bytes, closes: bool = False, verdict: bytes = b"") -> None:
        """
        @param answer: what it says to those whom it does not know.
        @param closes: whether it ends the connection behind that, although it may not say so.
        @param verdict: what it says to a password; "": nothing, ever.
        """
        super().__init__(self._serve)
        self.schemes: list[str] = []
        self._answer, self._closes, self._verdict = answer, closes, verdict

    def _serve(self, client: socket.socket) -> None:
        while head := headOf(client):
            _, _, value = head.partition(b"\r\nProxy-Authorization: ")
            self.schemes.append(value.split(b" ")[0].decode() or "-")
            if self.schemes[-1] == "Basic":
                client.sendall(self._verdict)
                client.recv(100)
                return
            client.sendall(self._answer)
            if self._closes:
                return


class OddProxyTests(IntegrationTestCase):
    WELCOME = b"HTTP/1.1 200 OK\r\nthis is no header\r\n\r\nwelcome"

    def asking(self, *lines: str, closes: bool = False, verdict: bytes = WELCOME) -> OddProxy:
        head = "\r\n".join(["HTTP/1.1 407 Who", *lines, "Content-Length: 4", "", "body"])
        proxy = OddProxy(head.encode(), closes, verdict)
        self.addCleanup(proxy.stop)
        return proxy

    def welcomed(self, proxy: OddProxy) -> list[str]:
        """A client is greeted; what the proxy was asked with."""
        config = corp(proxy, passwordFile=self.write(PASSWORD))
        tunnel = self.configured(config, self.peer(echo))
        with self.dial(tunnel.port) as client:
            self.assertEqual(client.recv(100), b"welcome")
        self.assertEqual(tunnel.end(), 0)
        self.assertEqual(tunnel.lines(), [])
        return proxy.schemes

    def test_whateverIsOddInAChallengeItIsAnswered(self) -> None:
        for line in (
            "Proxy-Authenticate: Basic realm=My Proxy Server",
            "Proxy-Authenticate: Basic realm='My Proxy'",
            'Proxy-Authenticate: Basic realm="My "nice" proxy"',
            'Proxy-Authenticate: Basic realm="My proxy',
            "Proxy-Authenticate: X-Other realm=Some Words,Basic realm=My Proxy",
            "no header at all\r\nProxy-Authenticate : BASIC",
        ):
            self.assertEqual(self.welcomed(self.asking(line)), ["-", "Basic"], line)

    def test_aConnectionThatOnlyLookedKeptAliveIsMadeAgain(self) -> None:
        proxy = self.asking("Proxy-Authenticate: Basic", closes=True)
        self.assertEqual(self.welcomed(proxy), ["-", "Basic"])

    def test_oneThatOffersNtlmAndServesBasicOnFreshConnectionsGetsIt(self) -> None:
        for word in "Connection: close", "X-Word: none":
            for offer in "NTLM, Basic", "Negotiate,NTLM,Basic realm=My Proxy":
                proxy = self.asking(f"Proxy-Authenticate: {offer}", word, closes=True)
                schemes = self.welcomed(proxy)
                self.assertEqual((schemes[0], schemes[-1]), ("-", "Basic"))
                self.assertIn("NTLM", schemes)

    def test_oneThatNamesNoSchemeGetsNoPassword(self) -> None:
        proxy = self.asking()
        config = corp(proxy, passwordFile=self.write(PASSWORD))
        tunnel = self.configured(config, self.peer(echo))
        self.assertTurnedAway(tunnel.port)
        self.assertOneLine(tunnel, at(proxy), "it does not say how", "auth = basic would send")
        self.assertEqual(proxy.schemes, ["-"])

    def test_oneThatDoesNotSayWhatItThinksOfAPasswordGetsItTwiceAtMost(self) -> None:
        proxy = self.asking("Proxy-Authenticate: Basic", verdict=b"")
        impatient = "[ptunnel]\nconnect-timeout = 2s\n"
        config = impatient + corp(proxy, passwordFile=self.write(PASSWORD))
        tunnel = self.configured(config, self.peer(echo))
        for _ in range(3):
            clients = [self.dial(tunnel.port) for _ in range(4)]
            for client in clients:
                with contextlib.suppress(ConnectionResetError):
                    self.assertEqual(client.recv(100), b"")
        self.assertEqual(proxy.schemes.count("Basic"), 2)
        self.assertIn("did not say whether it accepts the credentials", tunnel.output())


class PasswordSourceTests(IntegrationTestCase):
    def setUp(self) -> None:
        self.proxy = shared(SquidWithPassword, USER, PASSWORD)
        self.target = self.peer(echo)

    def test_aPasswordFileThatIsPutRightServesAtOnce(self) -> None:
        file = self.write(WRONG)
        tunnel = self.configured(corp(self.proxy, passwordFile=file), self.target)
        self.assertTurnedAway(tunnel.port)
        Path(file).write_text(PASSWORD)
        self.assertEchoes(tunnel.port)
        self.assertOneLine(tunnel, f"{at(self.proxy)} rejects the credentials")

    def test_aPasswordCommandServes(self) -> None:
        file = self.write(f"{PASSWORD}\n")
        tunnel = self.configured(corp(self.proxy, passwordCommand=f"cat {file}"), self.target)
        self.assertEchoes(tunnel.port)

    def test_aPasswordCommandThatFailsIsOneLine(self) -> None:
        command = "echo the safe is locked >&2; exit 3"
        tunnel = self.configured(corp(self.proxy, passwordCommand=command), self.target)
        self.assertTurnedAway(tunnel.port)
        self.assertToldNothing(tunnel, "password-command", "the safe is locked")

    def test_aPasswordCommandThatHangsIsOneLineAndIsEnded(self) -> None:
        pid = Path(self.write(""))
        command = f"echo $$ >{pid}; sleep 1000"
        impatient = "[ptunnel]\nconnect-timeout = 1s\n"
        config = impatient + corp(self.proxy, passwordCommand=command)
        tunnel = self.configured(config, self.target)
        self.assertTurnedAway(tunnel.port)
        eventually(lambda: not isRunning(int(pid.read_text())), "the command is ended")
        self.assertToldNothing(tunnel, "no credentials", "within 1 s")

    def assertToldNothing(self, tunnel: Ptunnel, *parts: str) -> None:
        """There is one line, and the proxy has got no credentials."""
        self.assertOneLine(tunnel, "test: ", at(self.proxy), *parts)
        schemes = {seen.scheme for seen in self.proxy.seen(at(self.target))}
        self.assertLessEqual(schemes, {"-"})


class Canary:
    """A password that nobody is to see, in whatever way it is given."""

    CANARY = "c4n4ry:p@ss/w 100%"

    accepted: bool

    def setUp(self) -> None:
        password = self.CANARY if self.accepted else WRONG
        self.proxy = RecordingProxy(basic(password))
        self.addCleanup(self.proxy.stop)
        self.target = self.peer(echo)
        self.url = f"http://{USER}:{quote(self.CANARY, safe='')}@{at(self.proxy)}"

    def test_asPartOfAURLInTheConfig(self) -> None:
        self.assertHidden(self.configured(f"[proxy corp]\nurl = {self.url}", self.target, "-vv"))

    def test_asPartOfAURLInTheCommandLine(self) -> None:
        self.assertHidden(self.ptunnel("-vv", "-p", self.url, f"0:{at(self.target)}"))

    def test_asPartOfAURLInTheEnvironment(self) -> None:
        environment = {"https_proxy": self.url}
        self.assertHidden(self.ptunnel("-vv", f"0:{at(self.target)}", environment=environment))

    def test_asAPassword(self) -> None:
        self.assertGivenAs(password=self.CANARY)

    def test_asAPasswordFile(self) -> None:
        self.assertGivenAs(passwordFile=self.write(self.CANARY))

    def test_asAPasswordFileOfTheCommandLine(self) -> None:
        file = self.write(self.CANARY)
        words = ("-p", at(self.proxy), "-U", USER, "--password-file", file)
        self.assertHidden(self.ptunnel("-vv", *words, f"0:{at(self.target)}"))

    def test_asAVariable(self) -> None:
        self.assertGivenAs(passwordEnv="CANARY", environment={"CANARY": self.CANARY})

    def test_asWhatACommandPrints(self) -> None:
        self.assertGivenAs(passwordCommand=f"cat {self.write(self.CANARY)}")

    def assertGivenAs(self, environment: Mapping[str, str] | None = None, **source: str) -> None:
        config = corp(self.proxy, **source)
        self.assertHidden(self.configured(config, self.target, "-vv", environment=environment))

    def assertHidden(self, tunnel: Ptunnel) -> None:
        if self.accepted:
            self.assertEchoes(tunnel.port)
        else:
            self.assertTurnedAway(tunnel.port)
        commandLines = "\n".join(commandLinesOf(tunnel.process.pid))
        self.assertEqual(tunnel.end(), 0)
        told = f"\r\nProxy-Authorization: {basic(self.CANARY)}\r\n".encode()
        self.assertTrue(any(told in request for request in self.proxy.requests))
        self.assertIn("#1 > Proxy-Authorization: Basic ***", tunnel.output())  # a trace
        for secret in (
            self.CANARY,
            quote(self.CANARY),
            quote(self.CANARY, safe=""),
            b64encode(self.CANARY.encode()).decode(),
            basic(self.CANARY).removeprefix("Basic "),
            self.CANARY.encode().hex(),
        ):
            self.assertNotIn(secret, tunnel.output())
            self.assertNotIn(secret, commandLines)


class AcceptedCanaryTests(Canary, IntegrationTestCase):
    accepted = True


class RejectedCanaryTests(Canary, IntegrationTestCase):
    accepted = False


def basic(password: str) -> str:
    """The value of a Proxy-Authorization header."""
    return f"Basic {b64encode(f'{USER}:{password}'.encode()).decode()}"


def corp(proxy: Program | Peer, **source: str) -> str:
    """A [proxy corp]. @param source: `passwordFile=...` or the like, for `password-file = ...`."""
    ((name, value),) = source.items()
    key = "".join(f"-{c.lower()}" if c.isupper() else c for c in name)
    return f"[proxy corp]\nurl = http://{at(proxy)}\nusername = {USER}\n{key} = {value}\n"


def commandLinesOf(pid: int) -> list[str]:
    """Those of a process and of all that it has started, as everybody can read them."""
    lines = [Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")]
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            lines += commandLinesOf(int(child))
    return lines


def isRunning(pid: int) -> bool:
    """Whether there is a process that has not ended."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    return False
