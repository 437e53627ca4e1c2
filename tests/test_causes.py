"""The catalogue of causes: `ptunnel.causes`, and the page that explains it."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ptunnel import causes, errors
from ptunnel.causes import CAUSES, Cause
from ptunnel.connect.handshake import Handshake
from ptunnel.errors import TunnelError

DOCS = Path(__file__).resolve().parents[1] / "docs"


class CatalogueTests(SynchronousTestCase):
    def test_idsAreDifferentAndFitForMachines(self) -> None:
        ids = [cause.id for cause in CAUSES]
        self.assertGreater(len(ids), 20)
        self.assertEqual(len(set(ids)), len(ids))
        for name in ids:
            self.assertRegex(name, r"\A[a-z]+(-[a-z]+)*\Z")

    def test_eachHasAHint(self) -> None:
        self.assertEqual([cause.id for cause in CAUSES if not cause.hint], [])

    def test_thePageOfFailuresListsEachWithItsHint(self) -> None:
        text = (DOCS / "errors.md").read_text("utf-8")
        rows = dict(re.findall(r"^\| `([a-z-]+)` \| (.+?) \|", text, re.MULTILINE))
        self.assertEqual(list(rows), [cause.id for cause in CAUSES])
        for cause in CAUSES:
            self.assertEqual(rows[cause.id], re.sub(r"\{\w+\}", "N", cause.hint))

    def test_theSchemaOfCheckListsEach(self) -> None:
        schema = json.loads((DOCS / "check.schema.json").read_text("utf-8"))
        known = schema["$defs"]["fault"]["properties"]["cause"]["enum"]
        self.assertEqual(known, [None, *(cause.id for cause in CAUSES)])


class NamingTests(SynchronousTestCase):
    def test_aFailureHasTheCauseThatItWasMadeWith(self) -> None:
        for cause in CAUSES:
            self.assertIs(TunnelError("odd", cause=cause).cause, cause)
        self.assertIsNone(TunnelError("odd").cause)

    def test_idsAreUnique(self) -> None:
        self.assertEqual(len({cause.id for cause in CAUSES}), len(CAUSES))

    def test_whoeverMakesAFailureNamesItsCause(self) -> None:
        kinds = {
            name
            for name, kind in vars(errors).items()
            if isinstance(kind, type) and issubclass(kind, TunnelError) and name != "RouteFailed"
        }
        silent = {
            (path.stem, call.func.id)
            for path in (Path(errors.__file__).parent).rglob("*.py")
            for call in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
            if call.func.id in kinds and "cause" not in {key.arg for key in call.keywords}
        }
        # Of a client that is at fault itself there is no more to be said.
        self.assertEqual(silent, {("introduce", "TunnelError")})


class HandshakeTests(SynchronousTestCase):
    """What a proxy answers names its cause."""

    def causeOfAnswer(self, answer: bytes, port: int = 993) -> Cause | None:
        handshake = Handshake("t.example", port, hop="p:1")
        try:
            handshake.feed(answer)
        except TunnelError as e:
            return e.cause
        return handshake.end().cause  # type: ignore[attr-defined, no-any-return]

    def test_byItsStatus(self) -> None:
        for status, port, cause in (
            (403, 993, causes.PORT_REFUSED),
            (405, 993, causes.PORT_REFUSED),
            (403, 443, causes.TARGET_REFUSED),
            (404, 993, causes.WEB_SERVER),
            (407, 993, causes.CREDENTIALS_MISSING),
            (500, 993, causes.TARGET_DOWN),
            (429, 993, causes.PROXY_OVERLOADED),
            (511, 993, causes.TARGET_REFUSED),
            (503, 993, causes.TARGET_DOWN),
        ):
            answer = b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % status
            self.assertEqual(self.causeOfAnswer(answer, port), cause, status)

    def test_byItsFirstBytes(self) -> None:
        for answer, cause in (
            (b"\x15\x03\x01\x00\x02", causes.SPEAKS_TLS),
            (b"SSH-2.0-x\r\n", causes.SSH_SERVER),
            (b"220 hello\r\n", causes.OTHER_SERVER),
            (b"HTTP/1.1 200 OK\r\nno colon\r\n", causes.BROKEN),
            (b"HTTP/1.1 2", causes.BROKEN),
            (b"", causes.HUNG_UP),
        ):
            self.assertEqual(self.causeOfAnswer(answer), cause, answer)

    def test_silenceIsOneToo(self) -> None:
        expired = Handshake("t.example", 993, hop="p:1").expire(30)
        self.assertEqual(expired.cause, causes.SILENT)

    def test_a407ToNobodyNamesTheSchemesThatItOffers(self) -> None:
        answer = (
            b"HTTP/1.1 407 Who\r\nProxy-Authenticate: Digest realm=a, nonce=b\r\n"
            b"Proxy-Authenticate: NTLM, Odd\r\nContent-Length: 0\r\n\r\n"
        )
        error = self.assertRaises(TunnelError, Handshake("t.example", 993).feed, answer)
        self.assertEqual(error.hint, "it offers Digest, NTLM, Odd; give a user name and password")
        bare = b"HTTP/1.1 407 Who\r\nContent-Length: 0\r\n\r\n"
        error = self.assertRaises(TunnelError, Handshake("t.example", 993).feed, bare)
        self.assertEqual(error.hint, "give a user name and password")
