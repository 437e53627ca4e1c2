"""How lines of the log look, as their reader decides: a terminal, a pipe, twistd; with workers."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import signal
import socket
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ptunnel.log.layouts import FIELDS
from tests.integration.case import IntegrationTestCase, echo
from tests.integration.programs import HOST, NO_PROXY_SETTINGS, PATIENCE, Ptunnel, eventually
from tests.integration.test_surroundings import twistd
from tests.support import schema
from tests.support.loopback import freePort

SCHEMA = json.loads((Path(__file__).parents[2] / "docs/log.schema.json").read_text("utf-8"))
ENVIRON = {k: v for k, v in NO_PROXY_SETTINGS.items() if k not in ("NO_COLOR", "JOURNAL_STREAM")}
REFUSAL = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"


def answer(client: socket.socket) -> None:
    """As a proxy that allows CONNECT to 443 and 993 only, and is the target itself."""
    request = b""
    while b"\r\n\r\n" not in request:
        request += client.recv(4096)
    if b":443 " not in request and b":993 " not in request:
        client.sendall(REFUSAL)
        return
    client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    echo(client)


class LinesCase(IntegrationTestCase):
    """One session that ends in order, and one that is refused."""

    workers = 1

    def config(self, **more: object) -> str:
        settings = {"log-level": "info", "workers": self.workers, **more}
        service = "".join(f"{key} = {value}\n" for key, value in settings.items())
        return self.write(
            f"[ptunnel]\n{service}[proxy corp]\nurl = {HOST}:{self.peer(answer).port}\n"
            f"[tunnel web]\nlisten = {HOST}:0\ntarget = a.example:443\n"
            f"[tunnel mail]\nlisten = {HOST}:0\ntarget = a.example:587\n"
        )

    def visit(self, said: str) -> None:
        for port in re.findall(r"listening on \S+:(\d+), to ", said):
            client = self.dial(int(port))
            with contextlib.suppress(OSError):  # who is refused is perhaps reset at once
                client.sendall(b"hello")
                client.shutdown(socket.SHUT_WR)
                while client.recv(4096):
                    pass


class Screen:
    """A program on a terminal of its own."""

    def __init__(
        self,
        *words: str,
        program: Sequence[str] = Ptunnel.COMMAND,
        environ: Mapping[str, str] = ENVIRON,
    ) -> None:
        self.process, self.master = pty.fork()
        if not self.process:
            os.execve(program[0], [*program, *words], environ)
        self._shown = b""

    def shows(self, pattern: str, count: int = 1) -> str:
        """Wait until a pattern is there so many times. @return: all that is shown."""
        while len(re.findall(pattern, self.text())) < count:
            try:
                isThere = select.select([self.master], [], [], PATIENCE)[0]
                self._shown += os.read(self.master, 65536) if isThere else b""
            except OSError:  # it has ended
                isThere = []
            if not isThere:
                raise AssertionError(f"{pattern!r} is not shown: {self.text()}")
        return self.text()

    def text(self) -> str:
        return self._shown.decode().replace("\r\n", "\n")

    def end(self) -> None:
        os.kill(self.process, signal.SIGTERM)
        os.waitpid(self.process, 0)
        os.close(self.master)


class ScreenCase(LinesCase):
    def screen(self, *words: str, **environ: str) -> Screen:
        screen = Screen(*words, environ={**ENVIRON, "TERM": "xterm", **environ})
        self.addCleanup(screen.end)
        return screen


class TerminalTests(ScreenCase):
    def shown(self, **environ: str) -> list[str]:
        """The lines of a start and of both sessions."""
        screen = self.screen("--config", self.config(), **environ)
        self.visit(screen.shows("listening on", 2))
        text = screen.shows(r"(?m)(gets no tunnel|closed by).*$\n", 2)
        return text.splitlines()

    def test_timesAreShortAndCodesAreNot(self) -> None:
        lines = self.shown(NO_COLOR="1")
        self.assertEqual(len(lines), 4, lines)
        who = r"(worker \d: )?"
        for line, pattern in zip(
            lines,
            (
                r"web: listening on \S+, to a\.example:443 via corp",
                r"mail: listening on \S+, to a\.example:587 via corp",
                who + r"web: \S+ closed by the client after \S+ s: 5 bytes out, 5 in, connected in "
                r"\S+ s",
                rf"warning {who}mail: \S+ gets no tunnel: the proxy \S+ refuses a\.example:587: "
                r"403 Forbidden \(squid's default .*\)",
            ),
            strict=True,
        ):
            self.assertRegex(line, rf"\A\d\d:\d\d:\d\d {pattern}\Z")

    def test_theLevelOfAWarningIsColouredAndNothingElseIs(self) -> None:
        shown = "\n".join(self.shown())
        self.assertEqual(re.findall(r"\x1b\[.*?m\w*", shown), ["\x1b[33mwarning", "\x1b[0m"])

    def test_noColourWhereTheEnvironmentSaysSo(self) -> None:
        for environ in {"NO_COLOR": "1"}, {"TERM": "dumb"}:
            self.assertNotIn("\x1b", "\n".join(self.shown(**environ)))


class WorkersTerminalTests(TerminalTests):
    """What workers write goes through their parent, whose terminal it is."""

    workers = 2


class CommandTests(LinesCase):
    def test_aCommandHasItsNameInPlaceOfTheTime(self) -> None:
        screen = Screen("connect", "-p", f"{HOST}:{freePort()}", "a.example:22")
        self.addCleanup(screen.end)
        text = screen.shows(r"\n")
        self.assertRegex(text, r"\Aptunnel: \x1b\[31merror\x1b\[0m: cannot reach the proxy ")


class JsonPtunnel(Ptunnel):
    def ready(self) -> bool:
        return self.output().count("listening on") == 2


class JsonTests(LinesCase):
    def test_everyLineHasEveryField(self) -> None:
        program = JsonPtunnel("--config", self.config(**{"log-format": "json"}))
        self.addCleanup(program.stop)
        self.visit(program.output())
        eventually(lambda: len(program.output().splitlines()) >= 4, "both sessions end")
        lines: list[dict[str, Any]] = [json.loads(line) for line in program.output().splitlines()]
        for line in lines:
            self.assertEqual(list(schema.faults(line, SCHEMA)), [], line)
            self.assertLessEqual(set(FIELDS), set(line))
        codes = [line["code"] for line in lines if "code" in line]
        self.assertEqual(sorted(codes), ["--", "SC"])
        [failed] = [line for line in lines if line.get("code") == "SC"]
        self.assertEqual(
            [failed[name] for name in ("level", "tunnel", "status", "cause", "bytes_sent")],
            ["warning", "mail", 403, "port-refused", 0],
        )


class WorkersJsonTests(JsonTests):
    workers = 2


class TwistdTests(LinesCase):
    """The lines are twistd's; those of workers have the same form, and their level."""

    workers = 2

    def test_workersLinesHaveOneTimeAndTheirLevel(self) -> None:
        for how in "text", "json":
            config = self.config(**{"log-format": how})
            program = self.ptunnel("--config", config, command=twistd())
            self.visit(eventually(lambda p=program: self.listening(p), "both listen"))
            lines = eventually(lambda p=program: self.sessions(p), "both sessions end")
            self.assertEqual(len(lines), 2, lines)
            self.assertEqual("log-format = json: not under" in program.output(), how == "json")
            lines.sort(key=lambda line: "warn" in line)
            for line, kind in zip(lines, ("info", "warn"), strict=True):
                pattern = rf"\A\S+ \[ptunnel#{kind}\] worker \d: (web|mail): \S+ .*, (--|SC)\Z"
                self.assertRegex(line, pattern)

    def test_theAccountHasThemOnce(self) -> None:
        program = self.ptunnel("--config", self.config(status=f"{HOST}:0"), command=twistd())
        self.visit(eventually(lambda: self.listening(program), "both listen"))
        eventually(lambda: self.sessions(program), "both sessions end")
        [port] = re.findall(rf"status on http://{HOST}:(\d+)/", program.output())

        def warnings() -> list[dict[str, Any]]:
            with urllib.request.urlopen(f"http://{HOST}:{port}/api/v1/", timeout=PATIENCE) as page:
                events = json.load(page)["events"]
            return [event for event in events if event["level"] == "warning"]

        [event] = eventually(warnings, "the failure is accounted for")
        self.assertEqual(event["tunnel"], "mail")

    def listening(self, program: Ptunnel) -> str:
        said = program.output()
        return said if said.count("listening on") == 2 else ""

    def sessions(self, program: Ptunnel) -> list[str]:
        found = [line for line in program.output().splitlines() if "worker " in line]
        return found if len(found) >= 2 else []
