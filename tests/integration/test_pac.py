"""PAC files with the real program: which proxy it takes, and what becomes of files that are bad."""

from __future__ import annotations

import http.server
import os
import signal
import ssl
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.integration.case import IntegrationTestCase, at, echo, run
from tests.integration.programs import HOST, Ptunnel, Squid, eventually, freePort, lacking, shared
from tests.support import authority


class PacServer:
    """Serves one PAC file over TLS, until it is told to answer 404."""

    def __init__(self, text: str) -> None:
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200 if owner.text else 404)
                self.send_header("Content-Length", str(len(owner.text)))
                self.end_headers()
                self.wfile.write(owner.text.encode())

            def log_message(self, *args: Any) -> None:
                pass

        self.text = text
        self.server = http.server.ThreadingHTTPServer((HOST, 0), Handler)
        pair = authority.server("localhost")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.cert, pair.key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"https://localhost:{self.server.server_port}/proxy.pac"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class PacCase(IntegrationTestCase):
    def setUp(self) -> None:
        if find_spec("quickjs") is None:
            lacking("quickjs-ng is not installed")
        self.squid = shared(Squid, "http_access allow all")
        self.target = self.peer(echo)

    def file(self, body: str) -> str:
        return self.write(f"function FindProxyForURL(url, host) {{ {body} }}")

    def through(self, pac: str, *keys: str, via: str = "work") -> Ptunnel:
        section = "\n".join(["[pac work]", f"url = {pac}", *keys])
        return self.configured(section, self.target, via=via)

    def assertEnds(self, processes: list[int]) -> None:
        eventually(lambda: not any(map(isAlive, processes)), "the end of the process")

    def children(self, program: Ptunnel) -> list[int]:
        number = program.process.pid
        return [*map(int, Path(f"/proc/{number}/task/{number}/children").read_text().split())]


class TakingTests(PacCase):
    def test_theProxyOfAFileIsTakenAndTheNextIfItCannotBeReached(self) -> None:
        file = self.file(f"return 'PROXY {HOST}:{freePort()}; PROXY {at(self.squid)}'")
        tunnel = self.through(file)
        self.assertEchoes(tunnel.port)
        self.assertEchoes(tunnel.port)

    def test_overHttpsWithTheCompanysAuthority(self) -> None:
        server = PacServer(f"FindProxyForURL = () => 'PROXY {at(self.squid)}'")
        self.addCleanup(server.close)
        tunnel = self.through(server.url, f"ca-file = {authority.authority().cert}")
        self.assertEchoes(tunnel.port)
        server.text = ""
        tunnel.process.send_signal(signal.SIGHUP)
        stays = "404 Not Found"
        eventually(lambda: stays in tunnel.output(), "the failure of the reading")
        self.assertIn("the one that was read before stays in use", tunnel.output())
        self.assertEchoes(tunnel.port)

    def test_aReloadTakesTheFileAsItIsNow(self) -> None:
        file = self.file(f"return 'PROXY {HOST}:{freePort()}'")
        tunnel = self.through(file)
        self.assertTurnedAway(tunnel.port)
        Path(file).write_text(f"FindProxyForURL = () => 'PROXY {at(self.squid)}'")
        tunnel.process.send_signal(signal.SIGHUP)
        eventually(lambda: "the PAC file has changed" in tunnel.output(), "the change")
        self.assertEchoes(tunnel.port)

    def test_directOnlyWhereViaAllowsIt(self) -> None:
        file = self.file("return 'DIRECT'")
        refused = self.through(file)
        self.assertTurnedAway(refused.port)
        eventually(lambda: "which via does not allow" in refused.output(), "the reason")
        self.assertEchoes(self.through(file, via="work, direct").port)

    def test_checkShowsWhatItSays(self) -> None:
        file = self.file(f"return 'SOCKS4 x:1; PROXY {at(self.squid)}'")
        done = run(*Ptunnel.COMMAND, "check", "-p", f"pac+{file}", f"0:{at(self.target)}")
        self.assertIn(f"SOCKS4 x:1; PROXY {at(self.squid)}", done.stdout.decode())
        self.assertIn(f"connect   {at(self.target)}", done.stdout.decode())


class BadTests(PacCase):
    def test_aFileThatLoopsFailsItsOwnClientsAndNobodyElse(self) -> None:
        file = self.file(f"if (url.includes(':1/')) while (true); return 'PROXY {at(self.squid)}'")
        config = f"""
            [pac work]
            url = {file}
            [tunnel good]
            listen = {HOST}:0
            target = {at(self.target)}
            [tunnel bad]
            listen = {HOST}:{(bad := freePort())}
            target = localhost:1
        """
        lines = [line.strip() for line in config.splitlines()]
        program = self.ptunnel("--config", self.write("\n".join(lines)))
        self.assertEchoes(program.port)
        for _ in range(4):
            self.assertTurnedAway(bad)
        eventually(lambda: "it is not asked for 60 s" in program.output(), "the end of patience")
        self.assertIn("needs more than 0.5 s", program.output())

    def test_whatCannotBeInterruptedIsEndedAndReplaced(self) -> None:
        file = self.file(
            "if (globalThis.n = (globalThis.n | 0) + 1, n == 2) new Array(2 ** 32 - 1).sort();"
            f"return 'PROXY {at(self.squid)}'"
        )
        tunnel = self.through(file)
        self.assertEchoes(tunnel.port)
        self.assertTurnedAway(tunnel.port)
        self.assertEchoes(tunnel.port)

    def test_untilTheServerIsThereClientsFailWithTheReason(self) -> None:
        port = freePort()
        tunnel = self.through(f"http://{HOST}:{port}/p.pac")
        self.assertTurnedAway(tunnel.port)
        eventually(lambda: "cannot read the PAC file" in tunnel.output(), "the warning")
        self.assertIn("connection refused", tunnel.output())

    def test_itsProcessEndsWithPtunnelHoweverThatEnds(self) -> None:
        file = self.file(f"return 'PROXY {at(self.squid)}'")
        for end in signal.SIGTERM, signal.SIGKILL:
            tunnel = self.through(file)
            self.assertEchoes(tunnel.port)
            children = self.children(tunnel)
            self.assertEqual(len(children), 1)
            tunnel.process.send_signal(end)
            tunnel.process.wait()
            self.assertEnds(children)

    def test_thereIsNothingForItToFind(self) -> None:
        file = self.file("return 'DIRECT'")
        tunnel = self.through(file, via="work, direct")
        self.assertEchoes(tunnel.port)
        (child,) = self.children(tunnel)
        self.assertEqual(Path(f"/proc/{child}/environ").read_bytes().strip(b"\0"), b"")
        limits = Path(f"/proc/{child}/limits").read_text()
        self.assertRegex(limits, r"Max open files +0 +0")
        self.assertEqual(sorted(os.listdir(f"/proc/{child}/fd")), ["0", "1", "2"])


def isAlive(number: int) -> bool:
    try:
        state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
