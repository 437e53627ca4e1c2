"""The server's side of SOCKS: `ptunnel.socks.server`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.auth import Credentials
from ptunnel.net.asked import Login, Rejected, Request, nameOf
from ptunnel.socks import wire
from ptunnel.socks.client import ClientHandshake
from ptunnel.socks.client import Phase as ClientPhase
from ptunnel.socks.replies import Asked
from ptunnel.socks.server import Phase, ServerHandshake
from tests.socks.test_wire import hosts, ports
from tests.support.phases import followers, holdToTable

ASK = b"\5\1\0\3\x09t.example\x03\xe1"
ASK_4 = b"\4\1\x03\xe1\xc0\0\2\1alice\0"
ASK_4A = b"\4\1\x03\xe1\0\0\0\1alice\0t.example\0"


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        holdToTable(self, ServerHandshake, "a client's SOCKS handshake")

    def refused(self, handshake: ServerHandshake, data: bytes) -> Rejected:
        error = self.assertRaises(Rejected, handshake.feed, data)
        assert isinstance(error, Rejected)
        self.assertIs(handshake.phase, Phase.OVER)
        return error


class HandshakeTests(Case):
    def test_eachPhaseHasItsRow(self) -> None:
        rows = followers("a client's SOCKS handshake")
        self.assertEqual(list(rows), [phase.value for phase in Phase])

    def test_aClientAsksForAName(self) -> None:
        handshake = ServerHandshake()
        self.assertIsNone(handshake.feed(b"\5\2\0\1"))
        self.assertEqual(handshake.answers(), b"\5\0")
        self.assertEqual(handshake.answers(), b"")
        self.assertEqual(handshake.feed(ASK + b"early"), Request("t.example", 993))
        self.assertEqual(handshake.answers(), b"")  # not before the target is connected
        self.assertEqual(handshake.grant(), b"\5\0\0\1\0\0\0\0\0\0")
        self.assertEqual(handshake.leftover, b"early")

    def test_whatIsPipelinedIsTaken(self) -> None:
        handshake = ServerHandshake()
        self.assertEqual(handshake.feed(b"\5\1\0" + ASK), Request("t.example", 993))
        self.assertEqual(handshake.answers(), b"\5\0")

    def test_aLoginIsJudged(self) -> None:
        handshake = ServerHandshake(needsLogin=True)
        handshake.feed(b"\5\2\0\2")
        self.assertEqual(handshake.answers(), b"\5\2")
        login = handshake.feed(b"\1\5alice\4word" + ASK)
        self.assertEqual(login, Login(b"alice", b"word"))
        self.assertNotIn("word", repr(login))
        self.assertIsNone(handshake.feed(b"more"))  # nothing is looked at before the verdict
        self.assertEqual(handshake.judge(True), Request("t.example", 993))
        self.assertEqual(handshake.answers(), b"\1\0")
        self.assertEqual(handshake.leftover, b"more")

    def test_aWrongLoginIsToldAndIsTheEnd(self) -> None:
        handshake = ServerHandshake(needsLogin=True)
        handshake.feed(b"\5\1\2\1\1a\1b")
        error = self.assertRaises(Rejected, handshake.judge, False)
        self.assertEqual(error.answer, b"\1\1")
        self.assertIs(handshake.phase, Phase.OVER)

    def test_whoOffersNoWayToLogInIsTold(self) -> None:
        for needs, greeting in (True, b"\5\1\0"), (False, b"\5\1\1"), (False, b"\5\0"):
            error = self.refused(ServerHandshake(needsLogin=needs), greeting)
            self.assertEqual(error.answer, b"\5\xff")

    def test_whoOffersNothingButALoginMayLogInWhereNoneIsNeeded(self) -> None:
        handshake = ServerHandshake()
        self.assertEqual(handshake.feed(b"\5\1\2\1\1a\0"), Login(b"a", b""))

    def test_otherCommandsAreAnswered7(self) -> None:
        for command in 0, 2, 3, 4:
            handshake = ServerHandshake()
            handshake.feed(b"\5\1\0")
            error = self.refused(handshake, bytes([5, command, 0, 1]))
            self.assertEqual(error.answer[:2], b"\5\7")

    def test_anUnknownTypeOfAddressIsAnswered8(self) -> None:
        handshake = ServerHandshake()
        handshake.feed(b"\5\1\0")
        self.assertEqual(self.refused(handshake, b"\5\1\0\2").answer[:2], b"\5\x08")

    def test_whatCanBeNoTargetIsAnswered4(self) -> None:
        for address in (
            b"\3\0\0\1",
            b"\3\3a b\0\1",
            b"\3\4a\r\nb\0\1",
            b"\3\1\xff\0\1",
            b"\3\1a\0\0",
        ):
            handshake = ServerHandshake()
            handshake.feed(b"\5\1\0")
            self.assertEqual(self.refused(handshake, b"\5\1\0" + address).answer[:2], b"\5\4")

    def test_aRefusalHasItsCode(self) -> None:
        handshake = ServerHandshake()
        handshake.feed(b"\5\1\0" + ASK)
        self.assertEqual(
            handshake.refuse(Asked("t.example:993").refusal(wire.REFUSED)), b"\5\5\0\1\0\0\0\0\0\0"
        )

    def test_anythingElseIsNotAnswered(self) -> None:
        for first in b"G", b"\x16", b"\0", b"\6":
            self.assertEqual(self.refused(ServerHandshake(), first).answer, b"")


class Version4Tests(Case):
    def test_itsAddressesAndNames(self) -> None:
        for ask, host in (ASK_4, "192.0.2.1"), (ASK_4A, "t.example"):
            handshake = ServerHandshake()
            self.assertEqual(handshake.feed(ask + b"early"), Request(host, 993))
            self.assertEqual(handshake.grant(), b"\0\x5a\0\0\0\0\0\0")
            self.assertEqual(handshake.leftover, b"early")

    def test_aRefusalHasOneCode(self) -> None:
        handshake = ServerHandshake()
        handshake.feed(ASK_4)
        self.assertEqual(
            handshake.refuse(Asked("t.example:993").refusal(wire.NOT_ALLOWED)),
            b"\0\x5b\0\0\0\0\0\0",
        )

    def test_itCannotLogIn(self) -> None:
        error = self.refused(ServerHandshake(needsLogin=True), ASK_4)
        self.assertEqual(error.answer[:2], b"\0\x5b")

    def test_itBindsNothing(self) -> None:
        error = self.refused(ServerHandshake(), b"\4\2" + ASK_4[2:])
        self.assertEqual(error.answer[:2], b"\0\x5b")

    def test_aTextWithoutAnEndIsCutOff(self) -> None:
        for start in ASK_4[:8], ASK_4A[:-10]:
            handshake = ServerHandshake()
            self.assertIsNone(handshake.feed(start + b"x" * 255))
            self.assertEqual(self.refused(handshake, b"x").answer[:2], b"\0\x5b")


class CutTests(Case):
    @given(hosts, ports, st.booleans(), st.binary(max_size=30), st.data())
    def test_everyCutOfEachVersionGivesTheSame(
        self, host: str, port: int, isOld: bool, behind: bytes, data: st.DataObject
    ) -> None:
        name = nameOf(host.encode())
        said = b"\5\1\0\5\1\0" + wire.address(host, port)
        if isOld:
            said = b"\4\1" + port.to_bytes(2, "big") + b"\0\0\0\7me\0" + host.encode() + b"\0"
        said += behind
        cuts = sorted(data.draw(st.sets(st.integers(0, len(said)), max_size=12)))
        handshake, found = ServerHandshake(), None
        try:
            for a, b in zip([0, *cuts], [*cuts, len(said)], strict=True):
                found = handshake.feed(said[a:b]) or found
        except Rejected:
            self.assertIsNone(name)
            return
        self.assertEqual(found, Request(str(name), port))
        self.assertEqual(handshake.leftover, behind)

    @given(st.booleans(), st.lists(st.binary(max_size=40), max_size=8))
    def test_anyBytesAreARequestOrOneRefusal(self, needs: bool, pieces: list[bytes]) -> None:
        handshake = ServerHandshake(needsLogin=needs)
        for piece in pieces:
            try:
                found = handshake.feed(piece)
                if isinstance(found, Login):
                    found = handshake.judge(True)
            except Rejected:
                self.assertIs(handshake.phase, Phase.OVER)
                return
            if isinstance(found, Request):
                self.assertEqual(nameOf(found.host.encode()), found.host)
                return

    @given(hosts, ports, st.booleans())
    def test_ourOwnClientIsServed(self, host: str, port: int, login: bool) -> None:
        client = ClientHandshake(host, port, hasLogin=login)
        server = ServerHandshake(needsLogin=login)
        server.feed(client.greeting())
        client.feed(server.answers())
        if login:
            alice = Credentials("alice", "word")
            self.assertEqual(server.feed(client.login(alice)), Login(b"alice", b"word"))
            self.assertEqual(wire.login(alice)[2:7], b"alice")
            server.judge(True)
            client.feed(server.answers())
        try:
            asked = server.feed(client.request(host, port))
        except Rejected as e:
            self.assertIsNone(nameOf(host.encode()))
            self.assertEqual(e.answer[1], wire.HOST_UNREACHABLE)
            return
        self.assertEqual(asked, Request(host, port))
        client.feed(server.grant("2001:db8::1", 5) + b"x")
        self.assertIs(client.phase, ClientPhase.ESTABLISHED)
        self.assertEqual(client.leftover, b"x")
