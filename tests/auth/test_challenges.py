"""What a proxy asks, parsed: `ptunnel.auth.challenges`."""

from __future__ import annotations

import string

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.auth.challenges import (
    MAX_CHALLENGES,
    MAX_PARAMETERS,
    MAX_VALUE,
    Challenge,
    ChallengeError,
    parseChallenges,
)

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

    def trouble(self, value: bytes) -> str:
        (challenge,) = parseChallenges([value])
        return challenge.trouble

    def test_itSaysInWordsWhatIsWrong(self) -> None:
        for value, words in (
            (b"", "names no scheme"),
            (b" ,, ", "names no scheme"),
            (b'"Basic"', "does not begin with the name of a scheme"),
            (b"realm=x, type=1", "does not begin with the name of a scheme"),
        ):
            self.assertIn(words, self.failure(value))

    def test_aChallengeSaysWhyItsParametersCannotBeReliedOn(self) -> None:
        for value, words in (
            (b'Digest realm="open', "its Digest challenge is malformed"),
            (b'Digest realm="open\\"', "its Digest challenge is malformed"),
            (b'Digest realm="a "b" c", nonce=n', "its Digest challenge is malformed"),
            (b"Digest realm", ""),
            (b"Digest no parameter", "its Digest challenge is malformed"),
            (b"Digest realm=a, REALM=b", "it has realm twice"),
            (b"Digest realm=a, REALM=a", ""),
        ):
            self.assertEqual(self.trouble(value), words, value)

    def test_noFieldAtAllIsNoChallenge(self) -> None:
        self.assertIn("names no scheme", self.failure())

    def test_aBasicChallengeCountsWhateverItsRealm(self) -> None:
        for rest in (
            b"",
            b" realm",
            b" realm=",
            b" realm=My Proxy Server",
            b" realm='My, Proxy'",
            b' realm="My "nice" proxy"',
            b' realm="My "nice, odd" proxy"',
            b' realm="My proxy',
            b' realm="a", realm="b"',
            b' realm="a";charset=UTF-8',
            b' realm="a" charset=UTF-8',
            b" realm=caf\xe9 au lait",
            b" My Proxy",
            b' "realm=a"',
            b" " + b"p=x, q=y, " * (MAX_PARAMETERS + 1),
        ):
            for scheme in b"Basic", b"BASIC":
                self.assertEqual(self.schemes(scheme + rest)[0], "basic", rest)

    def test_allSchemesOfOneLineAreSeenWhateverTheRealmsAre(self) -> None:
        digest = Challenge("digest", {"realm": "r", "nonce": "n"})
        for realm in b"My Proxy", b"'My Proxy'", b'"My "nice" proxy"', b'"My proxy', b"", b"a b c":
            value = b"Negotiate,NTLM,Basic realm=" + realm + b', Digest realm="r", nonce=n'
            found = parseChallenges([value])
            names = [challenge.scheme for challenge in found]
            self.assertEqual(names, ["negotiate", "ntlm", "basic", "digest"], realm)
            self.assertEqual(seen(found[-1]), seen(digest))

    def test_parametersMayStandWithoutQuotesOrCommas(self) -> None:
        expected = {"realm": "My Proxy", "nonce": "n", "qop": "auth"}
        for value in (
            b"Digest realm=My Proxy, nonce=n, qop=auth",
            b"Digest realm=My Proxy nonce=n  qop=auth",
            b'Digest realm="My Proxy" nonce="n" qop = "auth"',
            b'Digest realm = My Proxy ,nonce = "n",,qop=auth ,',
        ):
            (challenge,) = parseChallenges([value])
            self.assertEqual(seen(challenge), ("digest", expected, ""))
            self.assertEqual(challenge.trouble, "")

    def test_aMalformedFieldDoesNotSpoilTheOthers(self) -> None:
        for bad in b"@@", b"", b'"Digest', b"x" * 70_000:
            self.assertEqual(self.schemes(bad, b"Basic realm=a"), ["basic"])
            self.assertEqual(self.schemes(b"Basic realm=a", bad), ["basic"])

    def test_whatIsNoSchemeIsPassedOver(self) -> None:
        self.assertEqual(
            self.schemes(b'NTLM, "x", Basic realm=a, @, Negotiate'), ["ntlm", "basic", "negotiate"]
        )

    def test_aRepeatedParameterSpoilsItsOwnChallengeOnly(self) -> None:
        value = b"Digest realm=a, realm=b, nonce=n, Basic realm=c, NTLM"
        digest, *others = parseChallenges([value])
        self.assertIn("twice", digest.trouble)
        self.assertEqual(list(map(seen, others)), [("basic", {"realm": "c"}, ""), ("ntlm", {}, "")])

    def test_anOpenQuoteEndsWhereAKnownSchemeBegins(self) -> None:
        value = b'X-Other realm="open, Bearer x, Basic realm=a, NTLM'
        self.assertEqual(self.schemes(value), ["x-other", "basic", "ntlm"])

    def test_bytesThatAreNoUTF8AreKept(self) -> None:
        (challenge,) = parseChallenges([b'Basic realm="caf\xe9"'])
        realm = challenge.parameters["realm"]
        self.assertEqual(realm.encode("utf-8", "surrogateescape"), b"caf\xe9")

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
        (challenge,) = parseChallenges([b"Digest " + b", ".join(some)])
        self.assertEqual(len(challenge.parameters), MAX_PARAMETERS)
        self.assertIn(f"more than {MAX_PARAMETERS} parameters", challenge.trouble)

    def test_whatCouldTakeLongIsReadOrRefused(self) -> None:
        # Each takes a second or more where a pattern tries all ways to cut it.
        whole = MAX_VALUE - 100
        for value in (
            b"," * whole + b"NTLM",
            b"Basic a=b" + b" ," * (whole // 2),
            b"Basic a" + b" " * whole + b"=x",
            b"Basic a=b" + b" " * whole + b"x",
            b"Basic a=b" + b" c" * (whole // 2),
            b"Basic a=b" + b" " * whole + b"x=",
            b'Basic a="' + b"\\" * whole,
            b'Basic a="' + b'\\"' * (whole // 2),
            b'Basic a="' + b'"  ' * (whole // 3) + b"x",
            b'Basic a="' + b", " * (whole // 2),
            b"Basic " + b"a" * whole + b"@",
            b"Basic a" + b"=" * whole + b"x",
            b"Basic " + b"a " * (whole // 2),
            b'Basic a="' * (whole // 9),
            b'Basic a="x, ' * (whole // 12),
            b"Basic a=b " + b'a=" ' * (whole // 4),
            b"Basic a=b, " + b"@ ," * (whole // 3),
        ):
            self.assertLessEqual(len(parseChallenges([value])), MAX_CHALLENGES)
