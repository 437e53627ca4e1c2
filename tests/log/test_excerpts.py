"""What strangers say, in a log line: `ptunnel.log.excerpts`."""

from __future__ import annotations

import html
import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from urllib.parse import quote, quote_plus

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.auth import Credentials
from ptunnel.log.excerpts import (
    MAX_EXCERPT,
    MIN_SECRET,
    excerpt,
    masked,
    oneLine,
    room,
    secretsOf,
)

PASSWORD = "s3cr=t p+ä/ß€x?_-9>&"
CREDENTIALS = Credentials("alice", PASSWORD)
TOKEN = CREDENTIALS.basic().decode().partition(" ")[2]

Spelling = Callable[[str], str]
SPELLINGS: dict[str, Spelling] = {
    "as it is": str,
    "percents": lambda text: quote(text, safe=""),
    "percents in lower case": lambda text: quote(text, safe="").lower(),
    "percents throughout": lambda text: "".join(f"%{byte:02x}" for byte in text.encode()),
    "a form": quote_plus,
    "entities where needed": html.escape,
    "decimal entities": lambda text: "".join(f"&#{ord(c)};" for c in text),
    "decimal entities without an end": lambda text: "".join(f"&#{ord(c):07}" for c in text),
    "hexadecimal entities": lambda text: "".join(f"&#x{ord(c):04x};" for c in text),
    "hexadecimal entities in upper case": lambda text: "".join(f"&#X{ord(c):X};" for c in text),
    "named entities": lambda text: (
        text.replace("&", "&amp;")
        .replace("=", "&equals;")
        .replace("ä", "&auml;")
        .replace("€", "&euro;")
        .replace("/", "&sol;")
    ),
    "JSON": lambda text: json.dumps(text)[1:-1],
    "JSON with slashes": lambda text: json.dumps(text)[1:-1].replace("/", r"\/"),
    "escapes of JavaScript": lambda text: "".join(rf"\u{{{ord(c):x}}}" for c in text),
    "escapes of C": lambda text: "".join(rf"\x{byte:02x}" for byte in text.encode()),
    "octal": lambda text: "".join(rf"\{byte:03o}" for byte in text.encode()),
    "a repr": lambda text: repr(text.encode()),
    "base64": lambda text: b64encode(text.encode()).decode(),
    "base64 for URLs": lambda text: urlsafe_b64encode(text.encode()).decode().rstrip("="),
    "base64 in lower case": lambda text: b64encode(text.encode()).decode().lower(),
    "base64 with what is around it": lambda text: b64encode(f"to a: {text}.".encode()).decode(),
    "hexadecimal": lambda text: text.encode().hex(),
    "upper case": lambda text: text.replace("ß", "ẞ").upper().replace("ẞ", "ß"),
    "an entity in a URL": lambda text: quote(html.escape(text), safe=""),
    "percents in JSON in a page": lambda text: html.escape(json.dumps(quote(text, safe=""))[1:-1]),
}


class SpellingTests(SynchronousTestCase):
    """A secret is masked however a page spells it."""

    def assertMasked(self, secret: str, name: str, secrets: tuple[bytes, ...]) -> None:
        spelled = SPELLINGS[name](secret)
        shown = masked(f"before {spelled} after".encode(), secrets)
        self.assertIn("***", shown, name)
        # Of base64 the characters at the ends may have bits of the neighbours in them.
        left = shown.removeprefix("before ").removesuffix(" after")
        for at in range(len(spelled) - 5):
            if name != "base64 with what is around it":
                self.assertNotIn(spelled[at : at + 6], left, name)
        self.assertLess(len(left), 16, name)

    def test_aPassword(self) -> None:
        for name in SPELLINGS:
            if name != "base64 with what is around it":
                self.assertMasked(PASSWORD, name, CREDENTIALS.secrets())

    def test_theHeaderOfBasic(self) -> None:
        for name in SPELLINGS:
            if "around" not in name:
                self.assertMasked(TOKEN, name, CREDENTIALS.secrets())

    def test_aPasswordWithinWhatIsInBase64(self) -> None:
        for before in range(4):
            page = b64encode(b"x" * before + b"alice:" + PASSWORD.encode() + b" for a:1\n")
            shown = masked(page, CREDENTIALS.secrets())
            self.assertIn("***", shown)
            self.assertLess(len(shown), len(page) - 4 * len(PASSWORD) // 3)

    def test_aPasswordThatHasEscapesInItself(self) -> None:
        for password in "p@ss:w/rd 100%41", "a&lt;b/c", r"a\u0041/b&#65;", "50%/a%":
            secrets = Credentials("alice", password).secrets()
            for name in "as it is", "JSON with slashes", "named entities", "percents":
                shown = masked(f"a {SPELLINGS[name](password)} z".encode(), secrets)
                self.assertEqual(shown, "a *** z", (password, name))

    def test_aPasswordInLatin1(self) -> None:
        secrets = Credentials("alice", "größer").secrets()
        for page in (
            "größer".encode("latin-1"),
            b"gr%F6%DFer",
            b"gr&ouml;&szlig;er",
            b"gr\\xf6\\xdfer",
        ):
            self.assertEqual(masked(b"a " + page + b" z", secrets), "a *** z")

    @settings(max_examples=300)
    @given(
        st.text(st.characters(exclude_categories=["C"]), min_size=MIN_SECRET, max_size=20),
        st.lists(
            st.sampled_from(
                ["percents throughout", "decimal entities", "escapes of C", "JSON", "a form"]
            ),
            max_size=2,
        ),
        st.integers(0, 40),
    )
    @example("0000", [], 4)
    def test_anySecretInAnySpellingLeavesNothingThatCanBeReadBack(
        self, secret: str, names: list[str], cut: int
    ) -> None:
        spelled = secret
        for name in names:
            spelled = SPELLINGS[name](spelled)
        shown = masked(f"< {spelled} >".encode(), (secret.encode(),))
        self.assertEqual(shown, "< *** >")
        begun = masked(f"<{spelled[:cut]}".encode(), (secret.encode(),))
        self.assertLessEqual(len(begun), max(4, 1 + 13 * MIN_SECRET * 3))


class CuttingTests(SynchronousTestCase):
    def test_theMaskComesBeforeTheCut(self) -> None:
        for before in range(MAX_EXCERPT - len(TOKEN) - 2, MAX_EXCERPT + 2):
            page = b"x" * before + b" " + TOKEN.encode() + b" and more"
            shown = excerpt(page, CREDENTIALS.secrets())
            self.assertLessEqual(len(shown), MAX_EXCERPT)
            self.assertNotIn(TOKEN[:4], shown)

    def test_aTextThatBreaksOffWithinASecretShowsNothingOfIt(self) -> None:
        for name, spelling in SPELLINGS.items():
            if "base64" in name or name == "hexadecimal":
                continue
            page = b"before " + spelling(PASSWORD).encode()
            for at in range(len(page)):
                shown = masked(page[:at], CREDENTIALS.secrets()).removeprefix("before ")
                if "s3cr" in html.unescape(shown) or "***" not in shown:
                    # At most three characters of it are shown: they could be anybody's.
                    whole = masked(page[:at] + b"\0", ()).removeprefix("before ")
                    self.assertLess(len(whole), 12 * MIN_SECRET, (name, shown))

    def test_whatARefusalIsReadForHoldsAllOfASecretThatBeginsInIt(self) -> None:
        secret = b"&" * 30
        spelled = b"&amp;#x00026;" * 30
        page = b"<style>" + b"x" * (room(()) - 30) + b"</style>" + spelled
        self.assertNotIn("#", excerpt(page[: room([secret])], [secret]))

    def test_noMoreIsShownThanWhatIsCertain(self) -> None:
        page = b"<style>" + b"x" * 10_000 + b"</style>shown"
        self.assertEqual(excerpt(page), "")


class ShortSecretTests(SynchronousTestCase):
    def test_whatMayStandInAnyTextIsNotLookedFor(self) -> None:
        self.assertEqual(masked(b"a dog", [b"dog", b"", b"a"]), "a dog")


class HeaderTests(SynchronousTestCase):
    """Values of `header =`."""

    def test_theValueIsSecretAndTheTokenInIt(self) -> None:
        for value, page, shown in (
            ("mail-team", "X-Team: mail-team", "X-Team: ***"),
            ("Bearer t0k3n", "no t0k3n: Bearer is bad", "no ***: Bearer is bad"),
            ("session=0123456789; path=/", "bad 0123456789", "bad ***"),
            ("Mozilla/5.0 (X11)", "you are Mozilla/5.0", "you are ***"),
        ):
            self.assertEqual(masked(page.encode(), secretsOf(value.encode())), shown)

    def test_aWordInItIsNone(self) -> None:
        self.assertEqual(
            masked(b"Bearer of news", secretsOf(b"Bearer 0123456789")), "Bearer of news"
        )


class OneLineTests(SynchronousTestCase):
    def test_itsLengthIsThatOfTheManual(self) -> None:
        self.assertEqual(MAX_EXCERPT, 512)

    @given(st.binary(max_size=80))
    def test_itIsPrintableAndOneLine(self, said: bytes) -> None:
        shown = oneLine(said)
        self.assertEqual(shown.splitlines(), [shown] if shown else [])
        self.assertFalse(any(c < " " or "\x7f" <= c <= "\x9f" for c in shown))

    def test_itIsCut(self) -> None:
        self.assertEqual(oneLine(b"abcdef", (), 3), "abc")


class SplitTests(SynchronousTestCase):
    """A secret with something between its letters that a reader does not see, or that is markup."""

    def test_itTakesTheWholeTextWithIt(self) -> None:
        half = len(PASSWORD) // 2
        for between in "<wbr>", "\r\n", "<!-- -->", "&shy;", "\u200b", "&#8203;":
            for secret in html.escape(PASSWORD), TOKEN:
                split = secret[:half] + between + secret[half:]
                page = f"<p>You said {split}, which is wrong</p>".encode()
                self.assertEqual(excerpt(page, CREDENTIALS.secrets()), "***", split)

    def test_withoutOneTheTextStays(self) -> None:
        page = b"<p>You said<br>nothing that is secret</p>"
        self.assertEqual(excerpt(page, CREDENTIALS.secrets()), "You said nothing that is secret")
