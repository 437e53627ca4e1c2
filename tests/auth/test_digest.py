"""Digest: `ptunnel.auth.digest`."""

from __future__ import annotations

import hashlib
from itertools import count

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.auth import Credentials
from ptunnel.auth.challenges import Challenge, ChallengeError, parseChallenges
from ptunnel.auth.digest import MAX_NONCE, MAX_STALE, Digest, digestResponse

ALICE = Credentials("alice", "s3cret")
TARGET = "imap.example.com:993"
MUFASA = Credentials("Mufasa", "Circle of Life")
HASHES = {"MD5": "md5", "SHA-256": "sha256", "SHA-512-256": "sha512_256"}
AVAILABLE = [name for name, python in HASHES.items() if python in hashlib.algorithms_available]

# Control characters cannot stand in a header field.
shown = st.characters(min_codepoint=32, blacklist_characters="\x7f", blacklist_categories=["Cs"])
texts = st.text(shown, max_size=12)


def challenge(**parameters: str) -> Challenge:
    return Challenge("digest", {"realm": "corp", "nonce": "N1", "qop": "auth", **parameters})


def fields(header: bytes | None) -> dict[str, str]:
    """The parameters of a Proxy-Authorization."""
    assert header is not None
    (one,) = parseChallenges([header])
    assert one.scheme == "digest"
    return dict(one.parameters)


def expected(
    challenged: Challenge,
    given: dict[str, str],
    credentials: Credentials,
    method: str = "CONNECT",
) -> str:
    """The response, as a proxy that knows the password computes it."""
    name = challenged.parameters.get("algorithm", "MD5")

    def h(text: str) -> str:
        python = HASHES[name.removesuffix("-sess")]
        return hashlib.new(python, text.encode("utf-8", "surrogateescape")).hexdigest()

    realm, nonce = challenged.parameters["realm"], challenged.parameters["nonce"]
    a1 = h(f"{credentials.username}:{realm}:{credentials.password.reveal()}")
    if name.endswith("-sess"):
        a1 = h(f"{a1}:{nonce}:{given['cnonce']}")
    a2 = h(f"{method}:{given['uri']}")
    if "qop" in given:
        return h(f"{a1}:{nonce}:{given['nc']}:{given['cnonce']}:{given['qop']}:{a2}")
    return h(f"{a1}:{nonce}:{a2}")


class ResponseTests(SynchronousTestCase):
    def test_theExamplesOfTheRFC(self) -> None:
        # RFC 7616 section 3.9.1
        for algorithm, response in (
            ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
            ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ):
            challenged = challenge(
                realm="http-auth@example.org",
                qop="auth, auth-int",
                algorithm=algorithm,
                nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
            )
            computed = digestResponse(
                MUFASA,
                challenged,
                "GET",
                "/dir/index.html",
                "00000001",
                "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
            )
            self.assertEqual(computed, response)

    def test_theExampleOfTheOldRFC(self) -> None:
        # RFC 2617 section 3.5
        challenged = challenge(
            realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093"
        )
        credentials = Credentials("Mufasa", "Circle Of Life")
        computed = digestResponse(
            credentials, challenged, "GET", "/dir/index.html", "00000001", "0a4f113b"
        )
        self.assertEqual(computed, "6629fae49393a05397450978507c4ef1")


class HeaderTests(SynchronousTestCase):
    def answer(self, challenged: Challenge, credentials: Credentials = ALICE) -> dict[str, str]:
        return fields(Digest(credentials).begin(TARGET).answer(challenged))

    def test_itNamesTargetAndNonceAndCount(self) -> None:
        header = Digest(ALICE, makeNonce=lambda: "ours").begin(TARGET).answer(challenge())
        assert header is not None
        response = expected(challenge(), fields(header), ALICE)
        self.assertEqual(
            header.decode(),
            'Digest username="alice", realm="corp", nonce="N1", uri="imap.example.com:993", '
            f'response="{response}", qop=auth, nc=00000001, cnonce="ours"',
        )

    def test_ofAnotherMethodItIsForThatAndTheUrl(self) -> None:
        url = "http://origin.example/a?b"
        header = Digest(ALICE).begin(url, "GET").answer(challenge())
        given_ = fields(header)
        self.assertEqual(given_["uri"], url)
        self.assertEqual(given_["response"], expected(challenge(), given_, ALICE, "GET"))

    def test_theClientNonceIsAnotherEachTime(self) -> None:
        digest = Digest(ALICE)
        cnonces = {
            fields(digest.begin(TARGET).answer(challenge(nonce=str(n))))["cnonce"]
            for n in range(20)
        }
        self.assertEqual(len(cnonces), 20)

    def test_opaqueAndAlgorithmComeBackAsTheyWere(self) -> None:
        given_ = self.answer(challenge(opaque='a"b\\c', algorithm="sha-256"))
        self.assertEqual((given_["opaque"], given_["algorithm"]), ('a"b\\c', "sha-256"))
        self.assertNotIn("algorithm", self.answer(challenge()))
        self.assertNotIn("opaque", self.answer(challenge()))

    def test_withoutQopItIsAsInTheOldestRFC(self) -> None:
        challenged = Challenge("digest", {"realm": "corp", "nonce": "N1"})
        given_ = self.answer(challenged)
        self.assertEqual(set(given_), {"username", "realm", "nonce", "uri", "response"})
        self.assertEqual(given_["response"], expected(challenged, given_, ALICE))

    def test_aSessionWithoutQopStillHasAClientNonce(self) -> None:
        challenged = Challenge("digest", {"realm": "r", "nonce": "n", "algorithm": "MD5-sess"})
        given_ = self.answer(challenged)
        self.assertEqual(given_["response"], expected(challenged, given_, ALICE))

    def test_authIsTakenOutOfAList(self) -> None:
        for qop in "auth", "auth-int, auth", "AUTH", " auth-int,auth ":
            self.assertEqual(self.answer(challenge(qop=qop))["qop"], "auth")

    def test_theUserNameIsHashedWhereTheProxyWantsThat(self) -> None:
        for algorithm in "MD5", "SHA-256":
            challenged = challenge(userhash="true", algorithm=algorithm)
            given_ = self.answer(challenged)
            hashed = hashlib.new(HASHES[algorithm], b"alice:corp").hexdigest()
            self.assertEqual((given_["username"], given_["userhash"]), (hashed, "true"))
            self.assertEqual(given_["response"], expected(challenged, given_, ALICE))
        self.assertEqual(self.answer(challenge(userhash="false"))["username"], "alice")

    def test_theUserNameIsHashedAsUTF8(self) -> None:
        # The value in RFC 7616 section 3.9.2 is no SHA-512-256, but a SHA-512 cut short.
        jason = Credentials("Jäsøn Doe", "Secret, or not?")
        both = "Jäsøn Doe:api@example.org".encode()
        given_ = self.answer(
            challenge(realm="api@example.org", userhash="true", algorithm="SHA-256"), jason
        )
        self.assertEqual(given_["username"], hashlib.sha256(both).hexdigest())

    @given(
        texts.map(lambda text: text.replace(":", "")),
        texts,
        texts,
        texts,
        st.sampled_from(AVAILABLE),
        st.booleans(),
        st.booleans(),
    )
    def test_aProxyThatKnowsThePasswordAgrees(
        self,
        username: str,
        password: str,
        realm: str,
        nonce: str,
        algorithm: str,
        session: bool,
        qop: bool,
    ) -> None:
        credentials = Credentials(username, password)
        parameters = {"realm": realm, "nonce": nonce}
        parameters["algorithm"] = algorithm + "-sess" * session
        challenged = Challenge("digest", parameters | ({"qop": "auth"} if qop else {}))
        given_ = self.answer(challenged, credentials)
        self.assertEqual(given_["username"], username)
        self.assertEqual((given_["realm"], given_["nonce"]), (realm, nonce))
        self.assertEqual(given_["response"], expected(challenged, given_, credentials))


class RefusedTests(SynchronousTestCase):
    def failure(self, challenged: Challenge) -> str:
        exchange = Digest(ALICE).begin(TARGET)
        error = self.assertRaises(ChallengeError, exchange.answer, challenged)
        self.assertNotIn("s3cret", str(error))
        self.assertTrue(str(error).isprintable())
        return str(error)

    def test_itSaysInWordsWhatCannotBeAnswered(self) -> None:
        for challenged, words in (
            (Challenge("digest", {"nonce": "n"}), "no realm"),
            (Challenge("digest", {"realm": "r"}), "no nonce"),
            (challenge(algorithm="SHA-1"), 'algorithm "SHA-1" is not supported'),
            (challenge(algorithm="x\ny" * 100), "is not supported"),
            (challenge(qop="auth-int"), 'qop="auth-int"'),
            (challenge(qop=""), "only auth is supported"),
        ):
            self.assertIn(words, self.failure(challenged))

    def test_whatWouldNotFitARequestIsNotSentBack(self) -> None:
        for name in "realm", "nonce", "opaque":
            self.assertIn(name, self.failure(challenge(**{name: "x" * (MAX_NONCE + 1)})))
            self.assertIn(f"characters in its {name}", self.failure(challenge(**{name: "a\r\nb"})))
            answered = Digest(ALICE).begin(TARGET).answer(challenge(**{name: "x" * MAX_NONCE}))
            self.assertIsNotNone(answered)


class RejectionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.digest = Digest(ALICE)
        self.exchange = self.digest.begin(TARGET)

    def test_credentialsAreSentOnce(self) -> None:
        for nonce in "N1", "":
            exchange = Digest(ALICE).begin(TARGET)
            self.assertIsNotNone(exchange.answer(challenge(nonce=nonce)))
            self.assertIsNone(exchange.answer(challenge(nonce=nonce)))
            self.assertIsNone(exchange.answer(challenge(nonce="another")))

    def test_aStaleNonceIsReplacedButNotAgainAndAgain(self) -> None:
        self.exchange.answer(challenge())
        for number in range(MAX_STALE):
            again = self.exchange.answer(challenge(nonce=f"S{number}", stale="TRUE"))
            self.assertEqual(fields(again)["nonce"], f"S{number}")
        self.assertIsNone(self.exchange.answer(challenge(nonce="last", stale="true")))

    def test_aForgottenNonceIsWorthOneAnswer(self) -> None:
        self.exchange.answer(challenge())
        later = self.digest.begin(TARGET)
        self.assertEqual(fields(later.first())["nonce"], "N1")
        self.assertEqual(fields(later.answer(challenge(nonce="N2")))["nonce"], "N2")
        self.assertIsNone(later.answer(challenge(nonce="N3")))

    def test_theSameNonceUnaskedAndChallengedIsARejection(self) -> None:
        self.exchange.answer(challenge())
        later = self.digest.begin(TARGET)
        later.first()
        self.assertIsNone(later.answer(challenge()))


class NonceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.digest = Digest(ALICE)

    def answer(self, **parameters: str) -> str:
        return fields(self.digest.begin(TARGET).answer(challenge(**parameters)))["nc"]

    def first(self) -> tuple[str, str]:
        given_ = fields(self.digest.begin(TARGET).first())
        return given_["nonce"], given_["nc"]

    def test_nothingIsSentUnaskedBeforeThereIsANonce(self) -> None:
        self.assertIsNone(self.digest.begin(TARGET).first())

    def test_allExchangesCountTheSameNonceTogether(self) -> None:
        self.assertEqual(self.answer(), "00000001")
        self.assertEqual(self.first(), ("N1", "00000002"))
        self.assertEqual(self.answer(), "00000003")

    def test_aNonceIsNotCountedFromOneAgain(self) -> None:
        self.answer()
        self.assertEqual(self.answer(stale="true"), "00000002")
        self.assertEqual(self.answer(nonce="N2"), "00000001")
        self.assertEqual(self.answer(), "00000003")

    def test_theCountIsHexadecimal(self) -> None:
        self.answer()
        self.assertEqual([self.first()[1] for _ in range(9)][-1], "0000000a")

    def test_theNextNonceIsUsedAfterwards(self) -> None:
        exchange = self.digest.begin(TARGET)
        exchange.answer(challenge(opaque="o"))
        exchange.accepted(b'nextnonce="N2", qop=auth')
        given_ = fields(self.digest.begin(TARGET).first())
        self.assertEqual((given_["nonce"], given_["nc"], given_["opaque"]), ("N2", "00000001", "o"))

    def test_informationThatMakesNoSenseIsNoTrouble(self) -> None:
        for info in None, b"", b",,", b'nextnonce="open', b"\xff", b"qop=auth":
            exchange = self.digest.begin(TARGET)
            exchange.answer(challenge(nonce="kept"))
            exchange.accepted(info)
            self.assertEqual(self.first()[0], "kept")

    def test_manyNoncesAreNotKeptForEver(self) -> None:
        for number in range(1000):
            self.answer(nonce=str(number))
        self.assertLess(len(self.digest._counts), 100)

    def test_theResponseIsMasked(self) -> None:
        numbers = count()
        digest = Digest(ALICE, makeNonce=lambda: str(next(numbers)))
        exchange = digest.begin(TARGET)
        sent = [fields(exchange.answer(challenge(nonce=n, stale="true")))["response"] for n in "ab"]
        self.assertLessEqual({one.encode() for one in sent}, set(exchange.secrets()))
        self.assertIn(b"s3cret", exchange.secrets())


class BestTests(SynchronousTestCase):
    def test_theStrongestAlgorithmThatCanBeAnswered(self) -> None:
        def best(*algorithms: str) -> str:
            some = [challenge(algorithm=algorithm) for algorithm in algorithms]
            return Digest.best(some).parameters["algorithm"]

        self.assertEqual(best("MD5", "SHA-256"), "SHA-256")
        self.assertEqual(best("SHA-256", "MD5"), "SHA-256")
        self.assertEqual(best("SHA-1", "MD5-sess"), "MD5-sess")
        self.assertEqual(best("SHA-1", "SHA-3"), "SHA-1")

    def test_aStrongOneThatWantsTheBodyHashedIsPassedOver(self) -> None:
        strong = challenge(algorithm="SHA-256", qop="auth-int")
        self.assertIs(Digest.best([strong, (weak := challenge())]), weak)
