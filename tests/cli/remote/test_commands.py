"""`ptunnel status`, `sessions`, `reload` and `top` as commands: what they print, and exit codes."""

from __future__ import annotations

import io
import json
import os
import re
import socket
import subprocess
import sys
from typing import Any, get_args

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.cli import dispatch
from ptunnel.cli.remote import client, sessions
from ptunnel.cli.remote.document import Node
from ptunnel.cli.remote.remoteoptions import SORTS
from ptunnel.cli.remote.status import statusLines
from ptunnel.cli.remote.tables import painted, widthOf
from ptunnel.config import environment
from ptunnel.ledger.figures import SortKey
from tests.cli.remote.test_document import anything, hostile
from tests.support.answering import STATUS, Answering, Script, answer, asJSON, service
from tests.support.loopback import freePort


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class RemoteCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.environ: dict[str, str] = {}
        self.patch(os, "environ", self.environ)
        self.patch(environment, "SYSTEM_CONFIG", "/nowhere/tunnels.ini")

    def serving(self, script: Script | None = None) -> Answering:
        server = Answering(script or service())
        self.addCleanup(server.close)
        return server

    def ran(self, *words: str, out: io.StringIO | None = None) -> tuple[int, str, str]:
        """@return: the exit code, and what was printed."""
        out, err = out or io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", out)
        self.patch(sys, "stderr", err)
        try:
            code = dispatch.main(words)
        except SystemExit as e:
            code = e.code  # type: ignore[assignment]
        return code, out.getvalue(), err.getvalue()

    def fails(self, *words: str, code: int = 1) -> str:
        found, out, err = self.ran(*words)
        self.assertEqual((found, out, err.count("\n")), (code, "", 1), err)
        self.assertTrue(err.startswith("ptunnel: "), err)
        return err[9:-1]


class StatusTests(RemoteCase):
    def test_theFiguresForPeople(self) -> None:
        server = self.serving()
        code, out, err = self.ran("status", "--status", server.address)
        self.assertEqual((code, err), (0, ""))
        lines = out.splitlines()
        self.assertEqual(
            lines[:4],
            [
                f"ptunnel 1.2.3 is running at {server.address}, process 4711, "
                "since 2026-11-21T10:25:47+0000 (1 d 2 h)",
                "sessions: 3 now, 1 of them connecting; 17 in all, 2 failed, 1 refused",
                "bytes: 1.2 MB sent, 2.3 GB received; descriptors: 20 of 1024",
                "workers: 1 (process 4712) ready, 2 (process 0) not ready",
            ],
        )
        tunnel, other = lines[6:8]
        self.assertEqual(
            re.sub("  +", "|", tunnel),
            "imap|127.0.0.1:9993|imap.example.com:993|corp, direct|3|17|2|1|1.2 MB|2.3 GB|34 ms|"
            "1.2 s",
        )
        self.assertTrue(other.startswith("\\x1b[2Jsmtp  unix:/run/smtp"), other)
        self.assertIn("ill: connection refused  basic", lines[10])
        self.assertTrue(lines[10].endswith("2026-11-21T10:26:00+0000 no\\nway"), lines[10])
        self.assertEqual(lines[12:], ["LAST WARNINGS", "2026-11-21T10:26:00+0000 warning a\\x1bb"])

    def test_aDoorHasWhatItIsAskedByInPlaceOfATarget(self) -> None:
        door = {"name": "d", "kind": "door", "target": None, "protocols": ["socks", "http"]}
        [*_, line] = statusLines(Node({"tunnels": [door]}), "here")
        self.assertEqual(
            painted(line, False, plain=True).split(None, 1)[1][:22], "asked by SOCKS or HTTP"
        )

    def test_theDocumentForPrograms(self) -> None:
        code, out, _ = self.ran("status", "--json", "--status", self.serving().address)
        self.assertEqual((code, json.loads(out)), (0, STATUS))
        self.assertTrue(out.isascii())

    def test_quietIsTheExitCodeOnly(self) -> None:
        address = self.serving().address
        self.assertEqual(self.ran("status", "-q", "--status", address), (0, "", ""))
        port = str(freePort())
        self.assertEqual(self.ran("status", "-q", "--status", port), (1, "", ""))

    def test_oneThatStopsAnswersToo(self) -> None:
        server = self.serving(service(**{"": {**STATUS, "state": "stopping"}}))
        code, out, _ = self.ran("status", "--status", server.address)
        self.assertEqual(code, 0)
        self.assertTrue(out.startswith("ptunnel 1.2.3 is stopping at "), out)

    def test_theAddressIsThatOfTheConfig(self) -> None:
        path = os.path.abspath(self.mktemp())
        with open(path, "w") as file:
            file.write(f"[ptunnel]\nstatus = {self.serving().address}\n")
        self.assertEqual(self.ran("status", "-q", "-c", path)[0], 0)
        self.environ["PTUNNEL_CONFIG"] = path
        self.assertEqual(self.ran("status", "-q")[0], 0)

    def test_aMistakeIsExitCode2AndItsLine(self) -> None:
        self.assertIn("no status address", self.fails("status", code=2))
        self.assertIn("--status: ", self.fails("status", "--status", "x", code=2))
        self.assertIn("takes no argument", self.fails("status", "x", code=2))
        self.assertIn("--frobnicate", self.fails("status", "--frobnicate", code=2))

    def test_whereNobodyAnswersALineNamesTheAddress(self) -> None:
        port = freePort()
        line = self.fails("status", "--status", str(port))
        self.assertTrue(line.startswith(f"127.0.0.1:{port}: nobody answers there"), line)

    def test_colourOnATerminalUnlessNoColorSaysNo(self) -> None:
        address = self.serving().address
        _, out, _ = self.ran("status", "--status", address, out=Terminal())
        self.assertIn("\x1b[32mrunning\x1b[0m", out)
        self.environ["NO_COLOR"] = "1"
        _, out, _ = self.ran("status", "--status", address, out=Terminal())
        self.assertNotIn("\x1b[", out)

    @given(hostile() | anything, st.integers(1, 200))
    def test_whateverTheDocumentTheTablesFitAndMoveNoCursor(self, found: Any, width: int) -> None:
        for line in statusLines(Node(found), "127.0.0.1:8620", width):
            text = "".join(piece.text for piece in line)
            self.assertTrue(text.isprintable(), ascii(text))
            self.assertEqual(painted(line, True, plain=True), text.rstrip())
            if text.startswith(("TUNNEL", "PROXY")):
                self.assertLessEqual(widthOf(text), width)


class SessionsTests(RemoteCase):
    def test_theyAreATable(self) -> None:
        code, out, _ = self.ran("sessions", "--status", self.serving().address)
        head, first, second = out.splitlines()
        self.assertEqual((code, head.split()[0]), (0, "NUMBER"))
        self.assertEqual(
            re.sub("  +", "|", first.strip()),
            "7|127.0.0.1:50000|imap|corp|joined|1 min 15 s|1.0 kB|2.0 MB|1.5 kB/s",
        )
        self.assertEqual(second.split()[:4], ["8", "127.0.0.1:50001", "imap", "connecting"])

    def test_theOptionsGoIntoTheQuery(self) -> None:
        server = self.serving()
        words = "--tunnel", "a&b", "--filter", "x y", "--limit", "2"
        for more, query in (
            ((), "q=x+y&tunnel=a%26b&sort=number&order=asc&limit=2&offset=0"),
            (("--sort", "age"), "q=x+y&tunnel=a%26b&sort=age&order=desc&limit=2&offset=0"),
            (("--reverse",), "q=x+y&tunnel=a%26b&sort=number&order=desc&limit=2&offset=0"),
        ):
            self.ran("sessions", "--status", server.address, *words, *more)
            self.assertEqual(server.requests[-1], f"GET /api/v1/sessions?{query}")

    def test_moreThanOneAnswerHasAreAskedForInTurn(self) -> None:
        self.patch(sessions, "MOST", 2)
        listed = [{"number": n} for n in range(5)]

        def script(client: socket.socket, first: str) -> None:
            offset = int(first.rpartition("=")[2])
            client.sendall(asJSON({"total": 5, "sessions": listed[offset : offset + 2]}))

        server = self.serving(script)
        _, out, _ = self.ran("sessions", "--json", "--status", server.address)
        self.assertEqual(json.loads(out), {"total": 5, "sessions": listed})
        self.assertEqual(len(server.requests), 3)
        _, out, _ = self.ran("sessions", "--limit", "3", "--status", server.address)
        self.assertEqual(
            out.splitlines()[1:], [*["     0", "     1", "     2"], "3 of 5; --limit 5 shows all"]
        )

    def test_aServiceThatNeverHasThemAllIsNotAskedForEver(self) -> None:
        for found in (
            {"total": 10**6, "sessions": []},
            {"total": 10**9, "sessions": [{"number": 1}]},
        ):
            server = self.serving(service(sessions=found))
            code, _, _ = self.ran("sessions", "--limit", "3", "--status", server.address)
            self.assertEqual(code, 0)
            self.assertLessEqual(len(server.requests), 3)

    def test_noneIsSaid(self) -> None:
        server = self.serving(service(sessions={"total": 0, "sessions": []}))
        self.assertEqual(self.ran("sessions", "--status", server.address), (0, "no sessions\n", ""))

    def test_oneIsEnded(self) -> None:
        server = self.serving(service(**{"sessions/7": answer(status="204 No Content")}))
        code, out, _ = self.ran("sessions", "--end", "7", "--status", server.address)
        self.assertEqual((code, out), (0, "session 7 is ended\n"))
        self.assertEqual(server.requests[-1], "DELETE /api/v1/sessions/7")

    def test_whereThereIsNoneOfThatNumberALineSaysSo(self) -> None:
        missing = asJSON({"error": "there is nothing here"}, "404 Not Found")
        server = self.serving(service(**{"sessions/7": missing}))
        line = self.fails("sessions", "--end", "7", "--status", server.address)
        self.assertEqual(line, f"{server.address}: there is no session 7")

    def test_theTokenIsThatOfTheFile(self) -> None:
        path = os.path.abspath(self.mktemp())
        with open(path, "w") as file:
            file.write("sekrit\n")
        server = self.serving(service(**{"sessions/7": answer(status="204 No Content")}))
        words = "sessions", "--end", "7", "--status", server.address, "--token-file", path
        os.chmod(path, 0o644)
        line = self.fails(*words, code=2)
        self.assertTrue(line.startswith(f'--token-file: "{path}": it can be read by others'), line)
        os.chmod(path, 0o600)
        self.assertEqual(self.ran(*words)[0], 0)
        self.assertIn("\r\nAuthorization: Bearer sekrit\r\n", server.heads[-1])
        self.assertNotIn("sekrit", server.heads[-2])

    def test_theKeysAreThoseOfTheService(self) -> None:
        self.assertEqual(SORTS, get_args(SortKey))

    def test_mistakes(self) -> None:
        for words in (
            ("--end", "x"),
            ("--end", "-1"),
            ("--limit", "many"),
            ("--sort", "colour"),
            ("--end",),
            ("7",),
        ):
            self.fails("sessions", "--status", "1", *words, code=2)

    def test_aListThatIsNoneIsNotPtunnel(self) -> None:
        found: Any
        for found in [], {"sessions": 1}, None:
            server = self.serving(service(sessions=found))
            line = self.fails("sessions", "--status", server.address)
            self.assertIn("is not a list of sessions", line)


class ReloadTests(RemoteCase):
    def test_theLineOfTheServiceIsPrinted(self) -> None:
        server = self.serving(service(reload={"message": "reloaded: 1 tunnel\x1b"}))
        code, out, _ = self.ran("reload", "--status", server.address)
        self.assertEqual((code, out), (0, "reloaded: 1 tunnel\\x1b\n"))
        self.assertEqual(server.requests, ["GET /api/v1/", "POST /api/v1/reload"])

    def test_whatHasNotChangedIsExitCode1(self) -> None:
        refusal = asJSON({"error": "x.ini: [tunnel a] listn: unknown key"}, "409 Conflict")
        server = self.serving(service(reload=refusal))
        line = self.fails("reload", "--status", server.address)
        self.assertEqual(line, f"{server.address}: x.ini: [tunnel a] listn: unknown key")


class TopTests(RemoteCase):
    def test_withoutATerminalItSaysSo(self) -> None:
        line = self.fails("top", "--status", "1")
        self.assertIn("needs a terminal", line)

    def test_whereNothingRunsItTakesNoScreen(self) -> None:
        port = str(freePort())
        self.patch(sys, "stdin", Terminal())
        code, out, err = self.ran("top", "--status", port, out=Terminal())
        self.assertEqual((code, out), (1, ""))
        self.assertIn("nobody answers there", err)

    def test_onADumbTerminalItSaysSo(self) -> None:
        self.environ["TERM"] = "dumb"
        self.patch(sys, "stdin", Terminal())
        self.assertEqual(self.ran("top", "--status", "1", out=Terminal())[0], 1)


class StartTests(SynchronousTestCase):
    def test_theyNeedNoReactor(self) -> None:
        program = (
            "import sys; from ptunnel.cli import main; main(['status', '--status', '1'])\n"
            "print('twisted.internet.reactor' in sys.modules)"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
        )
        self.assertEqual(done.stdout, "False\n")

    def test_theTimeForAnAnswerIsAFewSeconds(self) -> None:
        self.assertLessEqual(client.PATIENCE, 5)
