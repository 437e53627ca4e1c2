"""What FindProxyForURL has returned: `ptunnel.pac.answers`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.config import DIRECT, Proxy
from ptunnel.pac.answers import MAX_CHOICES, MAX_SHOWN, parseAnswer


def said(text: str) -> list[str]:
    """The choices in a few words."""
    words = []
    for choice in parseAnswer(text).choices:
        if isinstance(choice, Proxy):
            tls = "+tls" if choice.tls is not None else ""
            words.append(f"{choice.protocol}{tls} {choice.name}")
        else:
            words.append(choice)
    return words


class AnswerTests(SynchronousTestCase):
    def test_eachKindIsThatProxy(self) -> None:
        self.assertEqual(
            said("PROXY a.example:8080; HTTPS b:443; SOCKS c:1; SOCKS5 d:2; HTTP e:3; DIRECT"),
            [
                "http a.example:8080",
                "http+tls b:443",
                "socks5h c:1",
                "socks5h d:2",
                "http e:3",
                "direct",
            ],
        )

    def test_anHttpsProxyIsVerified(self) -> None:
        (proxy,) = parseAnswer("HTTPS b:443").choices
        assert isinstance(proxy, Proxy) and proxy.tls is not None
        self.assertTrue(proxy.tls.verify)

    def test_blanksCaseAndEmptyEntriesDoNotMatter(self) -> None:
        self.assertEqual(said(" proxy   a:1 ;;\tDirect; \n"), ["http a:1", "direct"])

    def test_withoutAPortItIsTheOneOfTheKind(self) -> None:
        self.assertEqual(
            said("PROXY a; HTTPS a; SOCKS a"), ["http a:80", "http+tls a:443", "socks5h a:1080"]
        )

    def test_anAddressOfIPv6HasBrackets(self) -> None:
        self.assertEqual(said("PROXY [2001:db8::1]:80"), ["http [2001:db8::1]:80"])

    def test_whatStandsTwiceIsTriedOnce(self) -> None:
        self.assertEqual(said("PROXY a:1; DIRECT; PROXY a:1; DIRECT"), ["http a:1", "direct"])

    def test_whatIsNotServedIsPassedOverWithAReason(self) -> None:
        answer = parseAnswer("SOCKS4 a:1080; QUIC q:443; PROXY b:1")
        self.assertEqual([getattr(c, "name", c) for c in answer.choices], ["b:1"])
        self.assertEqual(
            answer.skipped,
            (
                '"SOCKS4 a:1080": SOCKS4 is not spoken with proxies',
                '"QUIC q:443": QUIC is not spoken',
            ),
        )

    def test_nothingButWhatIsNotServedIsAFailureWithTheReason(self) -> None:
        error = self.assertRaises(ValueError, parseAnswer, "SOCKS4 a:1080")
        self.assertIn("SOCKS4 is not spoken", str(error))

    def test_garbageIsQuotedShortAndPrintable(self) -> None:
        for text in (
            "a:8080",
            "PROXY",
            "PROXY a:99999",
            "PROXY user:word@a:1",
            "PROXY http://a:1",
            "PROXY a:1 b:2",
            "DIRECT a:1",
            "PROXY a:1; nonsense",
            "PROXY a\x1b[2J:1",
            "PROXY " + "x" * 5000,
        ):
            error = self.assertRaises(ValueError, parseAnswer, text)
            self.assertTrue(str(error).isprintable(), text)
            self.assertIn("it answers what is no proxy: ", str(error))
            self.assertLess(len(str(error)), MAX_SHOWN + 80)

    def test_nothingIsAFailure(self) -> None:
        for text in "", " ; ;":
            error = self.assertRaises(ValueError, parseAnswer, text)
            self.assertEqual(str(error), "it answers nothing")

    def test_moreThanAnybodyTriesIsAFailure(self) -> None:
        text = "; ".join(f"PROXY a:{port}" for port in range(1, MAX_CHOICES + 2))
        error = self.assertRaises(ValueError, parseAnswer, text)
        self.assertIn(f"more than {MAX_CHOICES}", str(error))

    @given(
        st.text(max_size=300)
        | st.lists(
            st.sampled_from(
                [
                    "PROXY",
                    "SOCKS",
                    "DIRECT",
                    "HTTPS",
                    " ",
                    ";",
                    "a",
                    ":",
                    "80",
                    "[::1]",
                    "@",
                    "\0",
                    "é",
                ]
            )
        ).map("".join)
    )
    def test_anyTextIsAnAnswerOrAFailureInOneLine(self, text: str) -> None:
        try:
            answer = parseAnswer(text)
        except ValueError as e:
            self.assertTrue(str(e).isprintable())
            return
        self.assertGreater(len(answer.choices), 0)
        for choice in answer.choices:
            if choice == DIRECT:
                continue
            assert isinstance(choice, Proxy)
            self.assertIsNone(choice.username)
            self.assertTrue(1 <= choice.port <= 65535)
            self.assertEqual(said(f"PROXY {choice.name}"), [f"http {choice.name}"])
