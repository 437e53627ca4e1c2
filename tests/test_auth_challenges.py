"""What a proxy asks, parsed: `ptunnel.auth.challenges`."""

from __future__ import annotations

import string

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.auth import Challenge, ChallengeError, parseChallenges
from ptunnel.auth.challenges import MAX_CHALLENGES, MAX_PARAMETERS, MAX_VALUE

TOKEN = string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~"
TOKEN68 = string.ascii_letters + string.digits + "-._~+/"

schemes = st.sampled_from(["Basic", "DIGEST", "ntlm", "Negotiate", "X-Other"])
names = st.text(TOKEN, min_size=1, max_size=6)
tokens = st.text(TOKEN68, min_size=1, max_size=20).flatmap(
    lambda t: st.integers(0, 2).map(lambda n: t + "=" * n)
)
spaces = st.sampled_from(["", " ", "\t", "  "])


@st.composite
def parameters(draw: st.DrawFn) -> tuple[str, str, str]:
    """A name, its value, and both as written."""
    name = draw(names)
    value = draw(st.text(TOKEN, min_size=1) | st.text(max_size=12))
    if value and set(value) <= set(TOKEN) and draw(st.booleans()):
        return name, value, f"{name}{draw(spaces)}={draw(spaces)}{value}"
    quoted = "".join("\\" + c if c in '"\\' or draw(st.booleans()) else c for c in value)
    return name, value, f'{name}{draw(spaces)}={draw(spaces)}"{quoted}"'


@st.composite
def challenges(draw: st.DrawFn) -> tuple[Challenge, str]:
    """A challenge, and one of the ways to write it."""
    scheme = draw(schemes)
    if draw(st.booleans()):
        token = draw(tokens)
        return Challenge(scheme.lower(), token=token), f"{scheme} {token}"
    some = draw(st.lists(parameters(), max_size=4, unique_by=lambda p: p[0].lower()))
    comma = f"{draw(spaces)},{draw(spaces)}"
    text = f"{scheme} {comma.join(written for _, _, written in some)}" if some else scheme
    return Challenge(scheme.lower(), {name.lower(): value for name, value, _ in some}), text


def seen(challenge: Challenge) -> tuple[str, dict[str, str], str]:
    return challenge.scheme, dict(challenge.parameters), challenge.token


class ParsingTests(SynchronousTestCase):
    def assertParsed(self, *pairs: tuple[bytes, list[Challenge]]) -> None:
        for value, expected in pairs:
            self.assertEqual(list(map(seen, parseChallenges([value]))), list(map(seen, expected)))

    def failure(self, *values: bytes) -> str:
        return str(self.assertRaises(ChallengeError, parseChallenges, values))

    def test_theExampleOfTheRFC(self) -> None:
        # RFC 9110 section 11.6.1
        self.assertParsed(
            (
                b'Basic realm="simple", Newauth realm="apps", type=1, title="Login to \\"apps\\""',
                [
                    Challenge("basic", {"realm": "simple"}),
                    Challenge(
                        "newauth", {"realm": "apps", "type": "1", "title": 'Login to "apps"'}
                    ),
                ],
            )
        )

    def test_aSchemeMayStandAlone(self) -> None:
        self.assertParsed(
            (b"Negotiate", [Challenge("negotiate")]),
            (b"Negotiate, NTLM", [Challenge("negotiate"), Challenge("ntlm")]),
            (
                b'Negotiate, Basic realm="a"',
                [Challenge("negotiate"), Challenge("basic", {"realm": "a"})],
            ),
        )

    def test_aTokenStandsInPlaceOfParameters(self) -> None:
        self.assertParsed(
            (b"NTLM TlRM==", [Challenge("ntlm", token="TlRM==")]),
            (
                b"Negotiate a+/b=, Basic realm=x",
                [Challenge("negotiate", token="a+/b="), Challenge("basic", {"realm": "x"})],
            ),
        )

    def test_namesAreInLowerCaseAndValuesAsTheyAre(self) -> None:
        self.assertParsed((b"DIGEST Realm=Corp", [Challenge("digest", {"realm": "Corp"})]))

    def test_emptyListElementsAreSkipped(self) -> None:
        basic = Challenge("basic", {"realm": "a", "x": "y"})
        self.assertParsed((b' , ,Basic realm="a",, ,x=y , ,', [basic]))

    def test_commasAndSchemesInQuotesAreText(self) -> None:
        value = b'Basic realm="a, Digest realm=b, \\\\"'
        self.assertParsed((value, [Challenge("basic", {"realm": "a, Digest realm=b, \\"})]))

    def test_manyFieldsAreOneList(self) -> None:
        found = parseChallenges([b"NTLM", b"Basic realm=a, Digest realm=b"])
        self.assertEqual([challenge.scheme for challenge in found], ["ntlm", "basic", "digest"])

    @settings(deadline=None)
    @given(st.lists(challenges(), min_size=1, max_size=4), spaces, spaces)
    def test_whatIsWrittenIsReadBack(
        self, written: list[tuple[Challenge, str]], before: str, after: str
    ) -> None:
        value = f"{before},{after}".join(text for _, text in written).encode()
        expected = [seen(challenge) for challenge, _ in written]
        self.assertEqual([seen(challenge) for challenge in parseChallenges([value])], expected)
        apart = parseChallenges([text.encode() for _, text in written])
        self.assertEqual([seen(challenge) for challenge in apart], expected)


class MalformedTests(SynchronousTestCase):
    def failure(self, *values: bytes) -> str:
        return str(self.assertRaises(ChallengeError, parseChallenges, values))

    def schemes(self, *values: bytes) -> list[str]:
        return [challenge.scheme for challenge in parseChallenges(values)]

    def test_itSaysInWordsWhatIsWrong(self) -> None:
        for value, words in (
            (b"", "names no scheme"),
            (b" ,, ", "names no scheme"),
            (b'"Basic"', "does not begin with the name of a scheme"),
            (b'Basic realm="open', "its Basic challenge is malformed"),
            (b'Basic realm="open\\"', "its Basic challenge is malformed"),
            (b'Digest nonce="n" realm="r"', "its Digest challenge is malformed"),
            (b"Basic realm=a, REALM=b", "it has REALM twice"),
        ):
            self.assertIn(words, self.failure(value))

    def test_noFieldAtAllMeansBasic(self) -> None:
        self.assertEqual(list(map(seen, parseChallenges([]))), [("basic", {}, "")])

    def test_aMalformedFieldDoesNotSpoilTheOthers(self) -> None:
        for bad in b'Digest realm="open', b"@@", b"Digest realm=a, realm=b", b"", b"x" * 70_000:
            self.assertEqual(self.schemes(bad, b"Basic realm=a"), ["basic"])
            self.assertEqual(self.schemes(b"Basic realm=a", bad), ["basic"])

    def test_whatStandsBeforeIsKept(self) -> None:
        self.assertEqual(
            self.schemes(b'NTLM, Basic realm=a, Digest realm="open'), ["ntlm", "basic"]
        )

    def test_aRepeatedParameterSpoilsItsOwnChallengeOnly(self) -> None:
        value = b"Digest realm=a, realm=b, nonce=n, Basic realm=c, NTLM"
        found = list(map(seen, parseChallenges([value])))
        self.assertEqual(found, [("basic", {"realm": "c"}, ""), ("ntlm", {}, "")])

    def test_nothingIsReadBehindAnOpenQuote(self) -> None:
        # Where it was meant to end, nobody can tell.
        self.failure(b'Digest realm="open, Basic realm=a, NTLM')

    def test_bytesThatAreNoUTF8AreKept(self) -> None:
        (challenge,) = parseChallenges([b'Basic realm="caf\xe9"'])
        realm = challenge.parameters["realm"]
        self.assertEqual(realm.encode("utf-8", "surrogateescape"), b"caf\xe9")

    @settings(deadline=None)
    @given(
        st.lists(
            st.binary(max_size=60)
            | st.text('abN =,"\\\t;@', max_size=60).map(str.encode)
            | challenges().map(lambda c: c[1].encode()),
            max_size=4,
        )
    )
    @example([b"Basic abc\n"])
    @example([b"Basic a\n=b"])
    def test_whateverComesIsReadOrRefused(self, values: list[bytes]) -> None:
        try:
            found = parseChallenges(values)
        except ChallengeError as e:
            self.assertTrue(str(e).isprintable())
            return
        self.assertTrue(found)
        for challenge in found:
            self.assertEqual(set(challenge.scheme) - set(TOKEN.lower()), set())
            self.assertFalse(challenge.token and challenge.parameters)
            for name in challenge.parameters:
                self.assertEqual(set(name) - set(TOKEN.lower()), set())


class LimitTests(SynchronousTestCase):
    def test_aLongFieldIsNotRead(self) -> None:
        for length, isRead in (MAX_VALUE, True), (MAX_VALUE + 1, False), (1_000_000, False):
            value = b'Basic realm="'.ljust(length - 1, b"a") + b'"'
            self.assertEqual(len(value), length)
            found = parseChallenges([value, b"NTLM"])
            self.assertEqual([c.scheme for c in found], ["basic", "ntlm"] if isRead else ["ntlm"])

    def test_onlySoManyChallengesAreRead(self) -> None:
        value = b", ".join([b"NTLM"] * (MAX_CHALLENGES + 1))
        self.assertEqual(len(parseChallenges([value])), MAX_CHALLENGES)
        self.assertEqual(len(parseChallenges([value, value])), MAX_CHALLENGES)

    def test_onlySoManyParametersAreRead(self) -> None:
        some = [b"p%d=x" % index for index in range(MAX_PARAMETERS + 1)]
        (challenge,) = parseChallenges([b"Digest " + b", ".join(some[:-1])])
        self.assertEqual(len(challenge.parameters), MAX_PARAMETERS)
        bad = b"Digest " + b", ".join(some)
        error = self.assertRaises(ChallengeError, parseChallenges, [bad])
        self.assertIn(f"more than {MAX_PARAMETERS} parameters", str(error))

    def test_whatCouldTakeLongIsReadOrRefused(self) -> None:
        # Each takes a second or more where a pattern tries all ways to cut it.
        whole = MAX_VALUE - 100
        for value, isRead in (
            (b"," * whole + b"NTLM", True),
            (b"Basic a=b" + b" ," * (whole // 2), True),
            (b"Basic a" + b" " * whole + b"=x", True),
            (b"Basic a=b" + b" " * whole + b"x", False),
            (b'Basic a="' + b"\\" * whole, False),
            (b'Basic a="' + b'\\"' * (whole // 2), False),
            (b"Basic " + b"a" * whole + b"@", False),
            (b"Basic a" + b"=" * whole + b"x", False),
            (b"Basic " + b"a " * (whole // 2), False),
            (b'Basic a="' * (whole // 9), False),
        ):
            if isRead:
                self.assertEqual(len(parseChallenges([value])), 1)
            else:
                self.assertRaises(ChallengeError, parseChallenges, [value])
