"""XMPP's STARTTLS: `ptunnel.starttls.xmpp`."""

from __future__ import annotations

import gc

from twisted.trial.unittest import SynchronousTestCase

from ptunnel.starttls import UPGRADES, Ready
from tests.starttls.test_starttls import (
    EJABBERD,
    PROSODY,
    STARTTLS,
    STREAM,
    TLS,
    Outcome,
    bytewise,
    talk,
)

HEADER = PROSODY.turns[0][: PROSODY.turns[0].index(b"<stream:features>")]
FEATURES, PROCEED = PROSODY.turns


def features(inside: bytes) -> bytes:
    return HEADER + b"<stream:features>" + inside + b"</stream:features>"


class XmppTests(SynchronousTestCase):
    def assertRefused(self, words: str, *turns: bytes) -> None:
        for cut in turns, map(bytewise, turns):
            self.assertEqual(talk("xmpp", *cut).ending, words)

    def test_theDomainIsEscaped(self) -> None:
        begun = UPGRADES["xmpp"]("a'b<c&d>").begin()
        self.assertEqual(begun, STREAM.replace(b"server.example", b"a&apos;b&lt;c&amp;d>"))

    def test_aServerThatOffersNoneIsRefused(self) -> None:
        for inside in (
            b"",
            b"<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
            b"<starttls/>",
            b"<starttls xmlns='urn:x'/>",
            b"<x><starttls xmlns='" + TLS + b"'/></x>",
            b"&lt;starttls xmlns='" + TLS + b"'/&gt;",
        ):
            self.assertRefused("does not offer STARTTLS", features(inside))
        self.assertRefused("does not offer STARTTLS", HEADER + b"<stream:features/>")

    def test_aServerOfBeforeVersionOneIsRefused(self) -> None:
        self.assertRefused(
            "does not offer STARTTLS", HEADER.replace(b"'5b4d' version='1.0'", b"'5b4d'")
        )

    def test_prefixesAreTheServersChoice(self) -> None:
        turn = (
            b"<s:stream xmlns:s='http://etherx.jabber.org/streams' xmlns:t='" + TLS + b"' "
            b"version='1.0'><s:features><t:starttls/></s:features>"
        )
        outcome = talk("xmpp", turn, b"<t:proceed/>")
        self.assertEqual(outcome, Outcome([STREAM, STARTTLS], Ready(), b""))

    def test_spaceBetweenElementsIsNothing(self) -> None:
        spaced = FEATURES.replace(b"<stream:features>", b" \n<stream:features>") + b"\n"
        self.assertEqual(talk("xmpp", spaced, b" " + PROCEED).ending, Ready())

    def test_aFailureIsRefused(self) -> None:
        for failure in b"<failure xmlns='%s'/>", b"<failure xmlns='%s'></failure></stream:stream>":
            self.assertRefused("refuses STARTTLS", FEATURES, failure % TLS)

    def test_aStreamErrorIsRefusedAndQuoted(self) -> None:
        error = (
            b"<stream:error><host-unknown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/><text "
            b"xmlns='urn:ietf:params:xml:ns:xmpp-streams'>not &lt;here&gt;</text></stream:error>"
        )
        for turns in [HEADER + error], [FEATURES, error]:
            self.assertRefused("refuses STARTTLS: host-unknown text not <here>", *turns)

    def test_theEndOfTheStreamIsARefusal(self) -> None:
        words = "ended its stream before TLS began"
        self.assertRefused(words, HEADER + b"</stream:stream>")
        self.assertRefused(words, FEATURES, b"</stream:stream>")

    def test_whatWasNotAskedForIsNoAnswer(self) -> None:
        foreign = "does not speak XMPP: urn:ietf:params:xml:ns:xmpp-tls proceed"
        self.assertRefused(foreign, HEADER + PROCEED)
        self.assertRefused("does not speak XMPP: jabber:client proceed", FEATURES, b"<proceed/>")
        self.assertRefused(
            "does not speak XMPP: http://etherx.jabber.org/streams features",
            FEATURES,
            b"<stream:features/>",
        )
        self.assertRefused("does not speak XMPP: jabber:client message", FEATURES, b"<message/>")

    def test_proceedInsideAnotherElementIsNone(self) -> None:
        self.assertEqual(talk("xmpp", FEATURES, b"<a>" + PROCEED).ending, None)

    def test_otherXMLIsNoXmpp(self) -> None:
        for document in b"<html>", b"<stream version='1.0'>", b"<stream:stream version='1.0'>":
            ending = talk("xmpp", document).ending
            self.assertTrue(str(ending).startswith("does not speak XMPP"), ending)

    def test_brokenXMLAndTextAreNoXmpp(self) -> None:
        for broken in b"<a b>", b"</b>", b"text<a>", b"&undefined;<a>", b"\xff<a>", b"\0<a>":
            for before in HEADER, FEATURES:
                turn = before + broken if before is HEADER else broken
                turns = [turn] if before is HEADER else [before, turn]
                ending = talk("xmpp", *turns).ending
                self.assertTrue(str(ending).startswith("does not speak XMPP"), ending)

    def test_whatXmppProhibitsIsRefused(self) -> None:
        bomb = b"<!DOCTYPE s [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;&a;'>]>" + FEATURES
        self.assertRefused("sends a document type, which XMPP prohibits", bomb)
        self.assertRefused("sends a comment, which XMPP prohibits", HEADER + b"<!-- x -->")
        self.assertRefused(
            "sends a processing instruction, which XMPP prohibits", HEADER + b"<?x?>"
        )

    def test_anotherEncodingIsNotBelieved(self) -> None:
        turn = FEATURES.replace(b"'1.0'?", b"'1.0' encoding='UTF-16'?")
        self.assertEqual(talk("xmpp", turn, PROCEED).ending, Ready())

    def test_nothingIsLeftToTheGarbageCollector(self) -> None:
        talk("xmpp", *EJABBERD.turns)
        gc.collect()
        gc.disable()
        try:
            talk("xmpp", *EJABBERD.turns)
            talk("xmpp", FEATURES, PROCEED)
            self.assertEqual(gc.collect(), 0)
        finally:
            gc.enable()
