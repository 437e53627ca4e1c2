"""What IMAP, POP3, SMTP and FTP servers answer: `ptunnel.starttls.lines`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from ptunnel.starttls import Ready
from tests.starttls.test_starttls import (
    DOVECOT_IMAP,
    DOVECOT_POP3,
    EHLO,
    POSTFIX,
    POSTFIX_GREETING,
    POSTFIX_OFFER,
    VSFTPD,
    Outcome,
    talk,
)


class ImapTests(SynchronousTestCase):
    GREETING, ANSWER = DOVECOT_IMAP.turns

    def test_theGreetingIsOurs(self) -> None:
        for greeting in (
            b"* OK hi\r\n",
            b"* OK\r\n",
            b"* ok [capability A]there\r\n",
            b"* OK [ALERT] we move [CAPABILITY x]\r\n",
            b"* OK \xc3\xa9\xff\n",
        ):
            outcome = talk("imap", greeting, self.ANSWER)
            self.assertEqual(outcome, Outcome(DOVECOT_IMAP.said, Ready(), b"* OK ready\r\n"))

    def test_preauthIsRefused(self) -> None:
        for word in b"PREAUTH", b"preauth":
            outcome = talk("imap", b"* " + word + b" hello alice\r\n", self.ANSWER)
            self.assertEqual(outcome, Outcome([], "says PREAUTH, which rules STARTTLS out", b""))

    def test_byeIsRefusedInsteadOfAGreetingAndInsteadOfTheAnswer(self) -> None:
        expected = "refuses STARTTLS: BYE too many"
        self.assertEqual(talk("imap", b"* BYE too many\r\n").ending, expected)
        self.assertEqual(
            talk("imap", self.GREETING, b"* bye too many\r\n").ending,
            expected.replace("BYE", "bye"),
        )

    def test_noAndBadAreRefused(self) -> None:
        for answer in "NO not now", "BAD what?", "bad":
            turn = b"ptunnel1 " + answer.encode() + b"\r\n"
            self.assertEqual(
                talk("imap", self.GREETING, turn).ending, f"refuses STARTTLS: {answer}"
            )

    def test_untaggedLinesMayComeBetween(self) -> None:
        for line in b"* CAPABILITY IMAP4rev1\r\n", b"* OK [ALERT] soon\r\n", b"* 3 EXISTS\r\n":
            self.assertEqual(talk("imap", self.GREETING + line, line + self.ANSWER).ending, Ready())

    def test_otherTagsAndContinuationsAreNoAnswer(self) -> None:
        for line in (
            b"ptunnel2 OK go\r\n",
            b"ptunnel11 OK go\r\n",
            b" ptunnel1 OK go\r\n",
            b"ptunnel1 OKAY\r\n",
            b"ptunnel1 OK \rgo\r\n",
            b"ptunnel1  OK\r\n",
            b"+ go on\r\n",
            b"\r\n",
        ):
            said = talk("imap", self.GREETING, line).ending
            self.assertTrue(str(said).startswith("does not speak IMAP"), said)

    def test_whatBeginsLikeAGreetingIsQuoted(self) -> None:
        for line in "* HELLO", "*OK", "* CAPABILITY x":
            ending = talk("imap", line.encode() + b"\r\n").ending
            self.assertEqual(ending, f"does not speak IMAP: {line}")


class Pop3Tests(SynchronousTestCase):
    def test_theTimestampOfTheGreetingIsNotShown(self) -> None:
        greeting = b"+OK POP3 ready <1896.697170952@dbc.mtview.ca.us>\r\n"
        outcome = talk("pop3", greeting, DOVECOT_POP3.turns[1])
        self.assertEqual(outcome, Outcome([b"STLS\r\n"], Ready(), b"+OK ready\r\n"))

    def test_aStatusAloneIsAnAnswer(self) -> None:
        self.assertEqual(
            talk("pop3", b"+OK\r\n", b"+ok\n"),
            Outcome(DOVECOT_POP3.said, Ready(), b"+OK ready\r\n"),
        )

    def test_errorsAreRefused(self) -> None:
        self.assertEqual(
            talk("pop3", b"-ERR busy\r\n"), Outcome([], "refuses STLS: -ERR busy", b"")
        )
        outcome = talk("pop3", DOVECOT_POP3.turns[0], b"-ERR unknown command\r\n")
        self.assertEqual(outcome.ending, "refuses STLS: -ERR unknown command")

    def test_otherLinesAreNoPop3(self) -> None:
        for line in "+OKAY", "+ go", "-ER", "+OK \rx":
            outcome = talk("pop3", line.encode() + b"\r\n")
            self.assertEqual(outcome.ending, "does not speak POP3: " + " ".join(line.split()))


class SmtpTests(SynchronousTestCase):
    def test_aGreetingMayHaveSeveralLines(self) -> None:
        greeting = b"220-mx.example ESMTP\r\n220-no spam\r\n220 please\r\n"
        outcome = talk("smtp", greeting, *POSTFIX.turns[1:])
        self.assertEqual(outcome, Outcome(POSTFIX.said, Ready(), POSTFIX.greeting))

    def test_repliesMayBeACodeAlone(self) -> None:
        outcome = talk("smtp", b"220\r\n", b"250-x\r\n250 STARTTLS\r\n", b"220\n")
        self.assertEqual(outcome, Outcome(POSTFIX.said, Ready(), POSTFIX.greeting))

    def test_theOfferIsReadInAnyCase(self) -> None:
        for word in b"starttls", b"StartTLS", b"STARTTLS ":
            outcome = talk("smtp", POSTFIX_GREETING, b"250-x\r\n250 " + word + b"\r\n")
            self.assertEqual(outcome.said, POSTFIX.said)

    def test_aServerThatDoesNotOfferItIsRefused(self) -> None:
        for answer in (
            POSTFIX_OFFER.replace(b"250-STARTTLS\r\n", b""),
            POSTFIX_OFFER.replace(b"STARTTLS", b"XXXXXXXA"),
            POSTFIX_OFFER.replace(b"STARTTLS", b"X-STARTTLS"),
            b"250 STARTTLS\r\n",  # that is its name
            b"250-x\r\n250 AUTH STARTTLS\r\n",
            b"502 5.5.2 Error: command not recognized\r\n",
        ):
            outcome = talk("smtp", POSTFIX_GREETING, answer)
            self.assertEqual(outcome, Outcome([EHLO], "does not offer STARTTLS", b""))

    def test_otherCodesAreRefusedInTheirPlaces(self) -> None:
        before = [*POSTFIX.turns]
        for index, line in (
            (0, "554 no SMTP service here"),
            (0, "421 busy"),
            (0, "250 what?"),
            (1, "421 4.3.2 shutting down"),
            (1, "220 what?"),
            (2, "454 4.7.0 TLS not available due to local problem"),
            (2, "501 syntax"),
            (2, "250 ok"),
        ):
            outcome = talk("smtp", *before[:index], line.encode() + b"\r\n")
            self.assertEqual(outcome.ending, f"refuses STARTTLS: {line}")

    def test_aRefusalOfSeveralLinesIsQuotedInOne(self) -> None:
        outcome = talk("smtp", b"554-go\r\n554 away\r\n")
        self.assertEqual(outcome.ending, "refuses STARTTLS: 554-go 554 away")

    def test_linesThatAreNoPartOfAReplyAreNoSmtp(self) -> None:
        for greeting, bad in (
            ("220x", "220x"),
            ("2200 x", "2200 x"),
            ("22", "22"),
            ("220-a\r\n221 b", "221 b"),
            ("220-a\r\nfree text", "free text"),
            ("220-a\r\n 220 b", "220 b"),
        ):
            outcome = talk("smtp", greeting.encode() + b"\r\n")
            self.assertEqual(outcome, Outcome([], f"does not speak SMTP: {bad}", b""))


class FtpTests(SynchronousTestCase):
    def test_aServerThatWillBeReadyIsWaitedFor(self) -> None:
        wait = b"120 Service ready in 2 minutes\r\n"
        outcome = talk("ftp", wait, *VSFTPD.turns)
        self.assertEqual(outcome, Outcome(VSFTPD.said, Ready(), VSFTPD.greeting))

    def test_otherCodesAreRefusedInTheirPlaces(self) -> None:
        for index, line in (
            (0, "421 There are too many connections"),
            (0, "530 no"),
            (1, "334 say more"),
            (1, "500 unknown"),
            (1, "530 Please login with USER and PASS."),
            (1, "220 what?"),
        ):
            outcome = talk("ftp", *VSFTPD.turns[:index], line.encode() + b"\r\n")
            self.assertEqual(outcome.ending, f"refuses AUTH TLS: {line}")

    def test_theFirstLineMustHaveACode(self) -> None:
        outcome = talk("ftp", b"220_x\r\n")
        self.assertEqual(outcome.ending, "does not speak FTP: 220_x")

    def test_aReplyEndsWithItsOwnCodeOnly(self) -> None:
        start = b"220-hello\r\n221 x\r\n220- y\r\n220x\r\n 220 z\r\n"
        self.assertEqual(talk("ftp", start), Outcome([], None, b""))
        end = b"220 done\r\n"
        outcome = talk("ftp", start + end)
        self.assertEqual(outcome, Outcome([b"AUTH TLS\r\n"], None, b""))
