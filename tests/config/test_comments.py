"""Comments behind values, and secrets that look as if they had one: `ptunnel.config.ini`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.auth import Secret
from ptunnel.config import PasswordCommand, PasswordEnv
from ptunnel.config.sections import commentsLast, withoutComment
from ptunnel.errors import ConfigError
from tests.config.test_ini import CANARY, IniTestCase

START = "[proxy corp]\nurl = http://proxy.example:3128\n"
NO_HASH = (
    "a comment behind a value begins with ;, not with #; or put a comment on a line of its own"
)


class SecretTests(IniTestCase):
    """What an inline comment may have cut is refused, with words that show none of it."""

    def assertRefused(self, lines: str, start: str) -> None:
        error = self.assertRaises(ConfigError, self.read, lines)
        self.assertTrue(str(error).startswith(f"{self.path}: [proxy corp] {start}"), str(error))
        self.assertNotIn(CANARY, str(error))

    def test_aPassword(self) -> None:
        for mark in ";", "#":
            for text in f"{CANARY} {mark}x", f"{CANARY}\t{mark} x", f"{mark}{CANARY}":
                self.assertRefused(
                    f"{START}username = alice\npassword = {text}\n",
                    f'password: " {mark}" may be a part of it or begin a comment; ',
                )

    def test_aMarkInsideAPasswordIsAPartOfIt(self) -> None:
        for text in "a;b#c", "a#", "a;", "a;; b":
            corp = self.read(f"{START}username = alice\npassword = {text}\n").proxies["corp"]
            self.assertEqual(corp.password, Secret(text))

    def test_aCommand(self) -> None:
        self.assertRefused(
            f"{START}username = alice\npassword-command = get {CANARY} ; true\n",
            'password-command: " ;" may be a part of it or begin a comment; ',
        )
        corp = self.read(f"{START}username = a\npassword-command = get x; y # z\n").proxies["corp"]
        self.assertEqual(corp.password, PasswordCommand("get x; y # z"))

    def test_aHeaderUnlessTheCommentIsSetOff(self) -> None:
        for text in f"X-Key: {CANARY} ;x", f"X-Key: {CANARY} ; x", f"X-Key: {CANARY}  ;x":
            for header in text, f"X-A: b\n  {text}":
                self.assertRefused(
                    f"{START}header = {header}\n",
                    'header: " ;" may be a part of it or begin a comment; ',
                )
        for comment in "  ; team", "\t; team", "      ;":
            corp = self.read(f"{START}header = X-A: b;c{comment}\n  X-B: d{comment}\n")
            expected = (("X-A", "b;c"), ("X-B", "d"))
            self.assertEqual(corp.proxies["corp"].headers, expected)

    def test_aUserinfo(self) -> None:
        self.assertRefused(
            f"[proxy corp]\nurl = http://alice:{CANARY} ;x@proxy.example:1\n",
            'url: " ;" may be a part of the password or begin a comment; ',
        )
        corp = self.read("[proxy corp]\nurl = http://alice:x@proxy.example:1 ; ours\n")
        self.assertEqual(corp.proxies["corp"].host, "proxy.example")


class HashTests(IniTestCase):
    def test_aUrlWithACommentAfterAHashSaysSo(self) -> None:
        for url in "http://p:1", "p:1", "http://alice:x@p:1":
            self.assertWrong(
                f"[proxy corp]\nurl = {url} # comment\n", f"[proxy corp] url: {NO_HASH}"
            )

    def test_aUserNameDoesToo(self) -> None:
        self.assertWrong(f"{START}username = alice # ours\n", f"[proxy corp] username: {NO_HASH}")

    def test_anyOtherValueThatIsWrongByItDoesToo(self) -> None:
        for key, text, what in (
            ("idle-timeout", "5m # enough", '"5m # enough": not a duration; '),
            ("max-connections", "5 #", '"5 #": not a number'),
            ("listen", "9993 # mail", '"9993 # mail": '),
        ):
            error = self.assertRaises(
                ConfigError, self.read, f"[tunnel t]\ntarget = t:1\n{key} = {text}\n"
            )
            self.assertIn(what, str(error))
            self.assertTrue(str(error).endswith(NO_HASH), str(error))


class CommentTests(IniTestCase):
    def test_theyAreCutFromOtherValuesAndFromSections(self) -> None:
        corp = self.read(
            "[proxy corp]  ; ours\nurl = p:1 ; with a blank\nusername = alice\t; who\n"
            "password-env = WORD ; #1\n",
            {"WORD": "x"},
        ).proxies["corp"]
        self.assertEqual(
            (corp.host, corp.username, corp.password), ("p", "alice", PasswordEnv("WORD"))
        )

    def test_aValueThatIsACommentOnlyIsMissing(self) -> None:
        self.assertWrong(
            "[ptunnel]\nworkers = ; two\n",
            "[ptunnel] workers: the value is missing; write one, or leave the key out",
        )

    def test_whatStandsBehindABracketIsACommentOrAMistake(self) -> None:
        for behind in " x", ";x", " # x":
            self.assertWrong(
                f"[ptunnel]{behind}\n",
                "line 1: not in a section; "
                "begin with [ptunnel], [proxy NAME], [tunnel NAME] or [door NAME]",
            )


class AnyValueTests(SynchronousTestCase):
    @given(st.text(alphabet="ab;# \t@", max_size=12))
    def test_aPasswordIsWholeOrRefused(self, text: str) -> None:
        try:
            self.assertEqual(withoutComment("password", text), text)
        except ConfigError:
            self.assertRegex(text, r"(^|\s)[;#]")
        else:
            self.assertNotRegex(text, r"(^|\s)[;#]")

    @given(st.text(alphabet="ab;# \t", max_size=12))
    def test_anyOtherIsCutAtItsFirstComment(self, text: str) -> None:
        cut = withoutComment("target", text)
        self.assertTrue(text.startswith(cut))
        self.assertNotRegex(cut, r"(^|\s);")


class ListTests(IniTestCase):
    """Comments on lines of their own within a list of header fields."""

    def headers(self, lines: str) -> tuple[tuple[str, str], ...]:
        return self.read(f"{START}{lines}").proxies["corp"].headers

    def test_theyDoNotEndIt(self) -> None:
        for comment in "; one", "    # two", "    ;three: 3", "#", "    ; four\n; five":
            lines = f"header = A: b\n{comment}\n    C: d\n{comment}\n    E: f\n{comment}\n"
            self.assertEqual(self.headers(lines), (("A", "b"), ("C", "d"), ("E", "f")))

    def test_aFieldBehindACommentOnlyIsFound(self) -> None:
        self.assertEqual(self.headers("header =\n    ; ours\n    A: b\n"), (("A", "b"),))

    def test_anotherKeyBehindOneEndsIt(self) -> None:
        # As in the sample, where keys stand indented among comments.
        for key in "    auth = none", "auth = none":
            proxy = self.read(f"{START}header = A: b\n    ; more\n{key}\n").proxies["corp"]
            self.assertEqual((proxy.headers, proxy.auth), ((("A", "b"),), "none"))

    def test_anErrorBehindItHasItsLine(self) -> None:
        text = f"{START}header = A: b\n; one\n    C: d\n; two\nnonsense\n"
        error = self.assertRaises(ConfigError, self.read, text)
        self.assertEqual(str(error), f"{self.path}: line 7: neither [section] nor key = value")

    @given(st.lists(st.sampled_from(["", "header = A: b", "  C: d", "  x = y", "; e", "  # f"])))
    def test_allLinesAreThereAndOnlyCommentsMove(self, lines: list[str]) -> None:
        moved = commentsLast("\n".join(lines)).split("\n") if lines else []
        self.assertEqual(sorted(moved), sorted(lines))

        def others(lines: list[str]) -> list[str]:
            return [line for line in lines if not line.lstrip().startswith((";", "#"))]

        self.assertEqual(others(moved), others(lines))
