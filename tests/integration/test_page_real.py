"""The status page of a ptunnel that runs, with clients that are real."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from pathlib import Path

from tests.integration.browser import ROOT, FakeStatus, PageTestCase
from tests.integration.case import HOST, RecordingProxy, at, echo, splicedConfig
from tests.integration.programs import PATIENCE, Program, freePort, required


class RunningTests(PageTestCase):
    """@ivar workers: how many processes serve."""

    workers = 1

    def setUp(self) -> None:
        super().setUp()
        self.target, self.proxy = self.peer(echo), RecordingProxy()
        self.addCleanup(self.proxy.stop)
        self.port, self.status = freePort(), freePort()
        token = self.write(FakeStatus.TOKEN)
        self.config = f"""
[ptunnel]
workers = {self.workers}
status = {HOST}:{self.status}
status-token-file = {token}
[proxy corp]
url = {at(self.proxy)}
[tunnel mail]
listen = {HOST}:{self.port}
target = {at(self.target)}
"""
        self.path = self.write(self.config)
        self.program = self.ptunnel("--config", self.path)
        self.browser.get(f"http://{HOST}:{self.status}/")
        self.until(lambda: self.text("#state") == "running", "the page has figures")

    def talk(self, client: socket.socket, size: int = 4) -> None:
        """Have bytes echoed."""
        sender = threading.Thread(target=client.sendall, args=(b"x" * size,))
        sender.start()
        left = size
        while left:
            left -= len(client.recv(min(left, 1 << 16)))
        sender.join(PATIENCE)

    def client(self) -> socket.socket:
        client = self.dial(self.port)
        self.talk(client)
        return client

    def row(self, client: socket.socket) -> str:
        """The row of a client's session."""
        name = "{}:{}".format(*client.getsockname())
        shown = self.texts('#session-table tbody [data-field="client"]')
        return f"#session-table tbody tr:nth-child({shown.index(name) + 1})"

    def test_clientsComeTransferAndLeave(self) -> None:
        self.assertTrue(self.seen("#no-sessions"))
        client, other = self.client(), self.client()
        self.until(lambda: len(self.shown()) == 2, "both are there")
        row = self.row(client)
        self.assertEqual(self.text(f'{row} [data-field="tunnel"]'), "mail")
        self.assertEqual(self.text(f'{row} [data-field="way"]'), "corp")
        self.talk(client, 3 << 20)
        for way in "received", "sent":
            figure = f'{row} [data-field="{way}"]'
            self.until(lambda figure=figure: self.text(figure) == "3.00 MiB", f"{way}: {figure}")
            tile = f'#tunnels [data-field="{way}"]'
            self.until(lambda tile=tile: self.text(tile) == "3.00 MiB", f"{way}: {tile}")
        self.assertRegex(self.text('#tunnels [data-field="p50"]'), r"\d [mµ]?s$")
        self.assertEqual(self.text('#proxies [data-field="connected"]'), "2")
        other.close()
        self.until(lambda: len(self.shown()) == 1, "one has left")
        self.until(lambda: "end 1" in self.text('#tunnels [data-field="ends"]'), "it is counted")

    def test_aSessionIsEndedFromThePage(self) -> None:
        client, other = self.client(), self.client()
        self.until(lambda: len(self.shown()) == 2, "both are there")
        self.unlock()
        self.one(f"{self.row(client)} button").click()
        self.one("#dialog-yes").click()
        client.settimeout(PATIENCE)
        with contextlib.suppress(ConnectionResetError):
            self.assertEqual(client.recv(1), b"")
        self.until(lambda: len(self.shown()) == 1, "its row is gone")
        self.talk(other)
        self.until(lambda: "is ended" in self.text("#events"), "the log says who did it")

    def test_aDrainedTunnelTurnsClientsAwayUntilItIsUndrained(self) -> None:
        client = self.client()
        self.until(self.shown, "it is there")
        self.unlock()
        self.one("#tunnels tbody button").click()
        self.one("#dialog-yes").click()
        self.until(lambda: self.seen("#tunnels .tag"), "the page shows it")
        self.assertTurnedAway(self.port)
        self.talk(client)
        self.until(lambda: self.text('#tunnels [data-field="refused"]') == "1", "it is counted")
        self.one("#tunnels tbody button").click()
        self.until(lambda: not self.seen("#tunnels .tag"), "the page shows it")
        self.client()

    def test_aReloadBringsATunnelAndABrokenFileSaysWhy(self) -> None:
        client = self.client()
        self.until(self.shown, "it is there")
        self.unlock()
        more = f"[tunnel more]\nlisten = {HOST}:{freePort()}\ntarget = {at(self.target)}\n"
        Path(self.path).write_text(splicedConfig(self.config + more))
        self.one("#reload").click()
        self.until(lambda: "more" in self.texts('#tunnels [data-field="name"]'), "it has come")
        self.until(lambda: "reloaded" in self.text("#said span"), "the page says it")
        Path(self.path).write_text(splicedConfig(self.config + more.replace("target", "tarrget")))
        self.one("#reload").click()
        self.until(lambda: "tarrget" in self.text("#said span"), "the page says what is wrong")
        self.talk(client)

    def test_aProxyThatIsGoneIsInTrouble(self) -> None:
        self.client()
        self.proxy.stop()
        self.assertTurnedAway(self.port)
        self.until(lambda: self.text('#tunnels [data-field="failed"]') == "1", "it is counted")
        self.assertIn("connection-refused", self.text('#tunnels [data-field="failures"]'))
        self.until(lambda: "in trouble" in self.text("#proxies"), "the proxy is in trouble")
        self.assertIn("refused", self.text('#proxies [data-field="error"]'))

    def test_aStopIsSeen(self) -> None:
        self.client()
        self.until(self.shown, "it is there")
        self.program.process.terminate()
        self.until(lambda: self.text("#state") == "stopping", "the page says it")


class WorkersTests(RunningTests):
    workers = 2


class NginxTests(PageTestCase):
    """Behind nginx, under a path of its own."""

    def test_thePageIsLiveAndSteers(self) -> None:
        behind = FakeStatus()
        self.addCleanup(behind.stop)
        nginx = StatusNginx(behind.port)
        self.addCleanup(nginx.stop)
        self.browser.get(f"http://{HOST}:{nginx.port}/ptunnel/")
        self.until(lambda: self.seen("#session-table tbody tr"), "the page lists sessions")
        for _ in range(2):
            self.changes(self.text, '#tiles [data-field="received"]')
        self.unlock()
        self.one("#session-table tbody tr:nth-child(5) button").click()
        self.one("#dialog-yes").click()
        self.until(lambda: 5 not in self.shown(), "the session is ended")


class StatusNginx(Program):
    """nginx with the lines of docs/status.md, for a status address on another port."""

    def __init__(self, status: int) -> None:
        text = (ROOT / "docs" / "status.md").read_text()
        [self._location] = re.findall(r"```nginx\n(.*?)```", text, re.DOTALL)
        self._location = self._location.replace("127.0.0.1:8620", f"{HOST}:{status}")
        super().__init__()

    def arguments(self) -> list[str]:
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = "\n".join(f"{kind}_temp_path {self.folder}/{kind};" for kind in kinds)
        config = f"""
            daemon off;
            master_process off;
            error_log stderr;
            pid {self.folder}/pid;
            events {{ worker_connections 512; }}
            http {{
                access_log off;
                {temporary}
                server {{ listen {HOST}:{self.port}; {self._location} }}
            }}
        """
        return [required("nginx"), "-p", str(self.folder), "-c", self.write("nginx.conf", config)]
