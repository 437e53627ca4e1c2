"""The first screen of README: its commands run as they are written, and its lines are real."""

from __future__ import annotations

import os
import re
import shlex
from base64 import b64encode
from pathlib import Path

from tests.integration.case import RecordingProxy, at
from tests.integration.programs import HOST, ME, Ptunnel, Sshd, required, shared
from tests.integration.test_log_lines import Screen, ScreenCase, answer

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")


class LinesTests(ScreenCase):
    """They are those of a terminal, but for times, ports and numbers."""

    def test_itsFourLinesAreReal(self) -> None:
        found = re.search(r"(?m)^```console\n\$ ptunnel (.*)\n((?:.*\n)+?)```$", README)
        assert found is not None
        words, shown = found.groups()
        proxy = f"{HOST}:{self.peer(answer).port}"
        words = re.sub(r"\b\d+:(?=[a-z.]+:\d+)", "0:", words.replace("proxy:3128", proxy))
        screen = self.screen(*words.split(), NO_COLOR="1")
        self.visit(screen.shows("listening on", 2))
        text = screen.shows(r"(?m)(gets no tunnel|closed by).*$\n", 2)
        self.assertEqual(self.plain(text.replace(proxy, "proxy:3128")), self.plain(shown))

    def plain(self, text: str) -> list[str]:
        text = re.sub(r"(?m)^\d\d:\d\d:\d\d ", "TIME ", text)
        text = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT", text)
        text = re.sub(r"\d+\.\d{3} s", "SECONDS s", text)
        text = re.sub(r"\d+ bytes out, \d+ in", "BYTES", text)
        return text.splitlines()


class SshTests(ScreenCase):
    """Against a real ssh and sshd."""

    def ssh(self, number: int, proxy: RecordingProxy) -> Screen:
        """Run one of the two lines, with names that are there, and a command at their end."""
        line = re.findall(r"(?m)^ssh -o ProxyCommand=.*$", README)[number]
        sshd, ptunnel = shared(Sshd), shlex.join(Ptunnel.COMMAND)
        for name, instead in (
            ("ptunnel connect", f"{ptunnel} connect"),
            ("proxy:3128", at(proxy)),
            ("me@ssh.example.com", f"{ME}@{HOST}"),
        ):
            self.assertIn(name, line)
            line = line.replace(name, instead)
        options = (
            "-F none -o BatchMode=yes -o IdentitiesOnly=yes -o HostKeyAlias=sshd.test "
            f"-p {sshd.port} -i {sshd.folder}/user -o UserKnownHostsFile={sshd.folder}/known_hosts"
        )
        words = [*shlex.split(line)[1:], "echo through"]
        screen = Screen(*shlex.split(options), *words, program=(required("ssh"),))
        self.addCleanup(screen.end)
        return screen

    def test_withoutAPassword(self) -> None:
        proxy = RecordingProxy()
        self.addCleanup(proxy.stop)
        self.ssh(0, proxy).shows("through")
        self.assertEqual(len(proxy.requests), 1)

    def test_withAPassword(self) -> None:
        proxy = RecordingProxy(f"Basic {b64encode(b'alice:wonderland').decode()}")
        self.addCleanup(proxy.stop)
        screen = self.ssh(1, proxy)
        screen.shows("Password of alice for the proxy: ")
        os.write(screen.master, b"wonderland\n")
        self.assertNotIn("wonderland", screen.shows("through"))
