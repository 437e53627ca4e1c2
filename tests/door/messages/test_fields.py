"""Header fields that pass through: `ptunnel.door.messages.fields`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from ptunnel.door.messages.fields import (
    HOP_BY_HOP,
    endToEnd,
    forwardsLeft,
    hasPassed,
    keepsOpen,
    newPseudonym,
    takesTrailers,
    trailersOf,
    upgradeOf,
    viaOf,
)


class FieldsTests(SynchronousTestCase):
    def names(self, *fields: tuple[bytes, bytes]) -> list[bytes]:
        return [name for name, _ in endToEnd(fields)]

    def test_hopByHopFieldsGoNoFurther(self) -> None:
        fields = [(name.title(), b"x") for name in sorted(HOP_BY_HOP)]
        self.assertEqual(self.names((b"Accept", b"*/*"), *fields), [b"Accept"])

    def test_norThoseThatConnectionNames(self) -> None:
        named = (b"Connection", b"close, X-One ,,"), (b"connection", b"x-TWO")
        fields = (b"X-One", b"1"), (b"x-two", b"2"), (b"X-Three", b"3"), (b"x-one", b"4")
        self.assertEqual(self.names(*named, *fields), [b"X-Three"])

    def test_butNothingThatSaysWhatTheRequestIs(self) -> None:
        named = (b"Connection", b"Host, Content-Length, Via, Cookie, Authorization, Max-Forwards")
        fields = [(name.strip(), b"x") for name in named[1].split(b",")]
        self.assertEqual(self.names(named, *fields), [name for name, _ in fields])

    def test_namesStayAsTheyWere(self) -> None:
        fields = [(b"X-oDD", b"a"), (b"X-oDD", b"b")]
        self.assertEqual(endToEnd(fields), fields)

    def test_whatIsAskedForByName(self) -> None:
        self.assertEqual(endToEnd([(b"A", b"1"), (b"B", b"2")], [b"a"]), [(b"B", b"2")])

    def test_trailersThatWouldChangeTheMessageGoNoFurther(self) -> None:
        fields = [(b"Checksum", b"1"), (b"Host", b"a"), (b"Content-Length", b"1"), (b"TE", b"x")]
        self.assertEqual(trailersOf(fields), fields[:1])

    def test_upgradeCountsWhereConnectionNamesIt(self) -> None:
        upgrade = (b"Upgrade", b"websocket")
        self.assertIsNone(upgradeOf([upgrade]))
        self.assertIsNone(upgradeOf([(b"Connection", b"Upgrade")]))
        fields = [(b"Connection", b"keep-alive, Upgrade"), upgrade]
        self.assertEqual(upgradeOf(fields), b"websocket")

    def test_trailersAreTakenByThoseWhoSayIt(self) -> None:
        self.assertTrue(takesTrailers([(b"TE", b"gzip, Trailers")]))
        self.assertFalse(takesTrailers([(b"TE", b"gzip")]))

    def test_whichConnectionsGoOn(self) -> None:
        for version, fields, goesOn in (
            (b"1.1", [], True),
            (b"1.1", [(b"Connection", b"x, Close")], False),
            (b"1.0", [], False),
            (b"1.0", [(b"Connection", b"Keep-Alive")], True),
            (b"1.0", [(b"Proxy-Connection", b"keep-alive")], True),
            (b"1.0", [(b"Connection", b"keep-alive, close")], False),
        ):
            self.assertIs(keepsOpen(version, fields), goesOn, (version, fields))


class LoopTests(SynchronousTestCase):
    def test_whatOneAddsItKnowsAgain(self) -> None:
        one, other = newPseudonym(), newPseudonym()
        self.assertNotEqual(one, other)
        fields = [(b"Via", b"1.0 first (Apache), HTTP/1.1 x:80"), viaOf(b"1.1", one)]
        self.assertTrue(hasPassed(fields, one))
        self.assertFalse(hasPassed(fields, other))
        self.assertFalse(hasPassed([], one))

    def test_inOneFieldAndInCapitalsToo(self) -> None:
        one = newPseudonym()
        value = b"1.1 a, 1.1 %b (comment) , 1.1 b" % one.upper().encode()
        self.assertTrue(hasPassed([(b"via", value)], one))

    def test_maxForwardsIsOneNumber(self) -> None:
        self.assertEqual(forwardsLeft([(b"Max-Forwards", b"7")]), 7)
        for values in [], [b"7", b"8"], [b"x"], [b"-1"], [b"1" * 10], [b""]:
            fields = [(b"Max-Forwards", value) for value in values]
            self.assertIsNone(forwardsLeft(fields), values)
