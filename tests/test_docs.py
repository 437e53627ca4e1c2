"""README.md, docs/ and conf/: what they show works, and what they list is what there is."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import io
import os
import re
import shlex
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from ptunnel.auth import Credentials
from ptunnel.cli import terminal
from ptunnel.cli.options import CheckOptions, ConnectOptions, HostsOptions
from ptunnel.cli.remote.remoteoptions import (
    ReloadOptions,
    SessionsOptions,
    StatusOptions,
    TopOptions,
)
from ptunnel.config import CommandLine, Settings, Tunnel, loadSettings, pacs, parseDuration
from ptunnel.connect import handshake
from ptunnel.connect.handshake import Handshake
from ptunnel.door.exchange import life
from ptunnel.door.forward import client
from ptunnel.errors import ConfigError, TunnelError
from ptunnel.login.authentication import AuthPhase
from ptunnel.net import attempt
from ptunnel.relay.outcome import Cause
from ptunnel.session import session
from ptunnel.socks.client import ClientHandshake
from ptunnel.socks.client import Phase as SocksPhase
from ptunnel.tap import Options
from tests.support.phases import followers

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
CONFIG = ROOT / "docs" / "config.md"
EMBEDDING = ROOT / "docs" / "embedding.md"
ERRORS = ROOT / "docs" / "errors.md"
TERMINAL = ROOT / "docs" / "terminal.md"
SECURITY = ROOT / "docs" / "security.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
OTHER_TOOLS = ROOT / "docs" / "other-tools.md"
SAMPLE = ROOT / "conf" / "tunnels.ini"
INDEX = ROOT / "docs" / "README.md"
MANUAL = [README, *sorted((ROOT / "docs").glob("*.md"))]
LEGS = ("leg", "producers", "socketleg", "kernel", "tlsleg")
REMOTE = {
    kind.command: kind for kind in (StatusOptions, TopOptions, SessionsOptions, ReloadOptions)
}
PATIENCE = 120.0
CHALLENGE = (
    b"HTTP/1.1 407 Who are you\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n"
)


def blocks(page: Path, *kinds: str) -> list[str]:
    """The fenced blocks of a page, of these languages."""
    found = re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    return [text for kind, text in found if kind in kinds]


def tables(page: Path, heading: str) -> list[list[str]]:
    """The rows, as cells, of the tables between a heading and the next one."""
    _, _, rest = page.read_text("utf-8").partition(f"\n{heading}\n")
    section = re.split(r"^#+ ", rest, maxsplit=1, flags=re.MULTILINE)[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row.strip("|").split(" |")] for row in rows]


def code(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


class ConfigExampleTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(pacs, "find_spec", lambda name: name)  # with or without the extra

    def load(self, text: str) -> Settings:
        folder = Path(self.mktemp())
        folder.mkdir()
        for name in re.findall(r"^password-file = (\S+)", text, re.MULTILINE):
            (folder / name).write_text("secret\n")
            (folder / name).chmod(0o600)
        (folder / "tunnels.ini").write_text(text, "utf-8")
        names = re.findall(r"^password-env = (\S+)", text, re.MULTILINE)
        command = CommandLine(configFile=str(folder / "tunnels.ini"))
        return loadSettings(command, dict.fromkeys(names, "secret"))

    def test_everyExampleLoadsWithoutAWarning(self) -> None:
        examples = [text for page in MANUAL for text in blocks(page, "ini")]
        self.assertGreater(len(examples), 1)
        for text in [*examples, SAMPLE.read_text("utf-8")]:
            tunnel = "[tunnel t]\nlisten = 0\ntarget = t.example:1\n"
            whole = text if "[tunnel " in text else text + tunnel
            self.assertEqual(self.load(whole).warnings, ())

    def test_theSampleHasEveryKey(self) -> None:
        sample = SAMPLE.read_text("utf-8")
        for kind in "ptunnel", "proxy", "pac", "tunnel":
            for key in keysOfTheProgram(kind):
                self.assertRegex(sample, rf"(?m)(^|; | or ){key} = ")

    def test_whatTheSampleCommentsOutIsRightToo(self) -> None:
        text = re.sub(r"(?m)^; ([a-z-]+ = |\[)", r"\1", SAMPLE.read_text("utf-8"))
        settings = self.load(text.replace("/etc/ptunnel/", ""))
        self.assertEqual(len(settings.tunnels), 2)


class CommandLineTests(SynchronousTestCase):
    """Every command that is shown parses; nothing is started."""

    def setUp(self) -> None:
        self.password = Path(self.mktemp())
        self.password.write_text("secret\n")
        self.password.chmod(0o600)

    def parse(self, line: str) -> None:
        stand = {
            "/etc/ptunnel/tunnels.ini": str(SAMPLE),
            "FILE": str(self.password),
            "%h": "host.example",
            "%p": "22",
        }
        for what, instead in stand.items():
            line = line.replace(what, instead)
        words = shlex.split(line, comments=True)
        environ = {}
        while re.match(r"\w+=", words[0]):
            name, _, environ[name] = words.pop(0).partition("=")
        program = os.path.basename(words.pop(0))
        if program == "twistd":
            del words[: words.index("ptunnel") + 1]
        self.patch(os, "environ", environ)
        self.patch(terminal, "askPassword", lambda prompt: "secret")
        said = io.StringIO()
        try:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                self.understand(program, words)
        except SystemExit as e:
            self.assertEqual(e.code, 0, f"{line}: {said.getvalue()}")

    def understand(self, program: str, words: list[str]) -> None:
        if program == "ptunnel" and words[0] == "demo":
            self.assertEqual(words, ["demo"])
        elif program == "ptunnel" and words[0] == "connect":
            ConnectOptions().parseOptions(words[1:])
        elif program == "ptunnel" and words[0] in ("check", "hosts"):
            kind = CheckOptions if words[0] == "check" else HostsOptions
            kind().parseOptions(words[1:])
        elif program == "ptunnel" and words[0] in REMOTE:
            REMOTE[words[0]]().parseOptions([*words[1:], "--status", "8620"])
        else:
            Options().parseOptions(words[1:] if words[0] == "run" else words)

    def shown(self) -> Iterator[str]:
        for page in MANUAL:
            for block in blocks(page, "sh", "console"):
                for line in re.sub(r"(?m)^\$ ", "", block.replace("\\\n", "")).splitlines():
                    if re.match(r"(\w+=\S+ )*(\S*/)?ptunnel |(\S*/)?twistd .*\bptunnel ", line):
                        yield line
                    if ours := re.match(r"podman run .* (ptunnel .*)", line):
                        yield ours[1]
                    if inner := re.search(r'ProxyCommand="([^"]*)"', line):
                        yield inner[1]
        for page in README, OTHER_TOOLS:
            for _, ours in re.findall(r"(?m)^\| ([^|]*) \| ([^|]*)", page.read_text("utf-8")):
                yield from (span for span in code(ours) if re.match(r"ptunnel .*:", span))
        yield from re.findall(r"^ +ProxyCommand (.*)$", README.read_text("utf-8"), re.MULTILINE)

    def test_everyCommandParses(self) -> None:
        lines = list(self.shown())
        self.assertGreater(len(lines), 10)
        for line in lines:
            self.parse(line)

    def test_theOptionsAreThoseOfTheProgram(self) -> None:
        options = Options()
        long = {f"--{name.rstrip('=')}" for name in options.longOpt}
        short = {f"-{letter}" for letter in options.shortOpt.replace(":", "")}
        cells = [row[0] for row in tables(CONFIG, "## Command line")[1:]]
        words = [word.split()[0] for cell in cells for word in code(cell)]
        self.assertEqual(sorted(words), sorted(long | short))

    def test_theOptionsOfThoseThatAskAreThoseOfTheProgram(self) -> None:
        common = {f"--{name}" for name in ("config", "status", "token-file", "help", "version")}
        for command in "status", "sessions":
            options = REMOTE[command]()
            long = {f"--{name.rstrip('=')}" for name in options.longOpt} - common
            cells = [row[0] for row in tables(TERMINAL, f"## ptunnel {command}")[1:]]
            words = {word.split()[0] for cell in cells for word in code(cell)}
            self.assertEqual({word for word in words if word.startswith("--")}, long, command)

    def test_whatConnectDoesNotTakeIsSaid(self) -> None:
        missing = {f"--{name.rstrip('=')}" for name in Options().longOpt}
        missing -= {f"--{name.rstrip('=')}" for name in ConnectOptions().longOpt}
        named = {
            word
            for row in tables(CONFIG, "## Command line")[1:]
            if re.search(r"(?i)not for `connect`|twistd only", row[1])
            for word in code(row[0])
        }
        self.assertEqual({word for word in named if word.startswith("--")}, missing)


class LinkTests(SynchronousTestCase):
    def test_everyRelativeLinkLeadsSomewhere(self) -> None:
        for page in [*MANUAL, CONTRIBUTING, ROOT / "CHANGELOG.md"]:
            for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
                if "://" not in link:
                    path, _, anchor = link.partition("#")
                    target = page.parent / path if path else page
                    self.assertTrue(target.exists(), f"{page.name}: {link}")
                    if anchor:
                        self.assertIn(anchor, anchors(target), f"{page.name}: {link}")

    def test_theIndexHasEachPage(self) -> None:
        linked = re.findall(r"\]\(([\w-]+\.md)", INDEX.read_text("utf-8"))
        pages = {page.name for page in MANUAL if page not in (README, INDEX)}
        self.assertEqual(set(linked) | {INDEX.name}, pages | {INDEX.name})


def anchors(page: Path) -> list[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return [re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings]


class SecurityTests(SynchronousTestCase):
    """docs/security.md names a test for each promise, and there are such tests."""

    def promises(self) -> list[list[str]]:
        text = SECURITY.read_text("utf-8")
        return [
            row
            for heading in re.findall(r"^## Against .*$", text, re.MULTILINE)
            for row in tables(SECURITY, heading)[1:]
            if row[0].strip("-")
        ]

    def test_eachPromiseNamesATest(self) -> None:
        promises = self.promises()
        self.assertGreater(len(promises), 20)
        for promise, tests in promises:
            self.assertTrue(code(tests), promise)

    def test_eachTestThatIsNamedIsThere(self) -> None:
        for name in {name for _, tests in self.promises() for name in code(tests)}:
            module, kind, test = name.rsplit(".", 2)
            path = ROOT.joinpath("tests", *module.split(".")).with_suffix(".py")
            self.assertTrue(path.exists(), name)
            names = [
                method.name
                for found in ast.parse(path.read_text("utf-8")).body
                if isinstance(found, ast.ClassDef) and found.name == kind
                for method in found.body
                if isinstance(method, (ast.FunctionDef, ast.AsyncFunctionDef))
            ]
            self.assertIn(test, names, name)


class ArchitectureTests(SynchronousTestCase):
    """docs/architecture.md names files that exist, and the booleans that the splice has."""

    def test_everyFileAndFolderThatIsNamedIsThere(self) -> None:
        named = re.findall(r"`([\w/.-]+(?:\.py|\.ini|/))`", ARCHITECTURE.read_text("utf-8"))
        self.assertGreater(len(named), 30)
        for name in named:
            places = ROOT / "src" / "ptunnel" / name, ROOT / name
            self.assertTrue(any(place.exists() for place in places), name)

    def test_everyFolderIsThere(self) -> None:
        rows = [name for row in tables(ARCHITECTURE, "## The picture") for name in code(row[0])]
        folders = {
            f"{path.parent.name}/" for path in (ROOT / "src" / "ptunnel").glob("*/__init__.py")
        }
        self.assertEqual({name for name in rows if name.endswith("/")}, folders)

    def test_everyFunctionThatIsNamedIsThere(self) -> None:
        source = "".join(
            path.read_text("utf-8") for path in (ROOT / "src" / "ptunnel").rglob("*.py")
        )
        named = re.findall(r"`(?:\w+\.)?(\w+)`", ARCHITECTURE.read_text("utf-8"))
        missing = [name for name in set(named) if not re.search(rf"\b{name}\b", source)]
        self.assertEqual(missing, [])

    def test_eachPhaseHasItsRow(self) -> None:
        for what, phases in (
            ("an attempt", attempt.Phase),
            ("a handshake", handshake.Phase),
            ("an authentication", AuthPhase),
            ("a session", session.Phase),
            ("a forwarded client", client.Phase),
            ("an exchange", life.Phase),
        ):
            named = [phase.value for phase in phases]
            self.assertEqual(list(followers(what)), named)
            self.assertLessEqual(set.union(*followers(what).values()), set(named))

    def test_theBooleansOfTheSpliceAreInTheTables(self) -> None:
        text = ARCHITECTURE.read_text("utf-8")
        legs = set.union(*(booleans(f"relay/legs/{name}.py") for name in LEGS))
        rows = tables(ARCHITECTURE, "### Booleans of a leg")[1:]
        self.assertEqual({name for row in rows for name in code(row[0])}, legs)
        _, _, section = text.partition("\n### Booleans of a splice\n")
        self.assertEqual(booleans("relay/splice.py"), {"_mayBeFaster"})
        self.assertEqual(booleans("relay/timeouts.py"), {"_probes"})
        self.assertIn("`_mayBeFaster`", section)

    def test_theStatesOfALegAreNamedByItsBooleans(self) -> None:
        heads, *rows = [
            row for row in tables(ARCHITECTURE, "### Booleans of a leg") if len(row) > 4
        ]
        self.assertEqual(code(" ".join(heads)), ["readEnded", "wroteLast", "writeEnded", "lost"])
        states = [tuple(row[1:5]) for row in rows if row[1].strip("-")]
        self.assertEqual(len(set(states)), len(states))
        for _, wroteLast, writeEnded, lost in states:
            if "yes" in (writeEnded, lost):
                self.assertEqual(wroteLast, "yes")

    def test_theCausesOfTheSpliceAreInTheTable(self) -> None:
        rows = tables(ARCHITECTURE, "### Booleans of a splice")
        start = next(i for i, row in enumerate(rows) if row[1] == "is replaced by")
        begun = {name for row in rows[start:] for name in code(row[0])} - {"_cause"}
        self.assertEqual(begun, set(get_args(Cause)))


def booleans(name: str) -> set[str]:
    """The attributes to which a module assigns True or False, or that it declares as bool."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / "src" / "ptunnel" / name).read_text("utf-8"))):
        if isinstance(node, ast.Assign):
            values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
            for target in node.targets:
                ours = target.elts if isinstance(target, ast.Tuple) else [target] * len(values)
                for attribute, value in zip(ours, values, strict=False):
                    if (
                        isinstance(attribute, ast.Attribute)
                        and isinstance(attribute.value, ast.Name)
                        and attribute.value.id == "self"
                        and isinstance(value, ast.Constant)
                        and isinstance(value.value, bool)
                    ):
                        found.add(attribute.attr)
        elif (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and isinstance(node.annotation, ast.Name)
            and node.annotation.id == "bool"
        ):
            found.add(node.target.id)
    return found


class ReferenceTests(SynchronousTestCase):
    def documented(self, heading: str) -> dict[str, str]:
        """The default of each key."""
        return {code(row[0])[0]: row[-1] for row in tables(CONFIG, heading) if code(row[0])}

    def test_theKeysAreThoseOfTheProgram(self) -> None:
        service = self.documented("### [ptunnel]")
        proxy = self.documented("### [proxy NAME]")
        tunnel = {
            key: default
            for key, default in self.documented("### [tunnel NAME]").items()
            if re.fullmatch("[a-z-]+", key)
        }
        shared = tunnel.keys() - {"listen", "target"}
        self.assertEqual(service.keys() | shared, keysOfTheProgram("ptunnel"))
        self.assertEqual(proxy.keys(), keysOfTheProgram("proxy"))
        self.assertEqual(tunnel.keys(), keysOfTheProgram("tunnel"))
        pac = tables(CONFIG, "### [pac NAME]")
        self.assertEqual({key for row in pac for key in code(row[0])}, keysOfTheProgram("pac"))

    def test_theDurationsAreTheDefaultsOfTheProgram(self) -> None:
        settings, tunnel = Settings((), {}), Tunnel("t", None, "h", 1, via=())  # type: ignore[arg-type]
        defaults: dict[str, Any] = {
            "drain-timeout": settings.drainTimeout,
            "connect-timeout": tunnel.connectTimeout,
            "idle-timeout": tunnel.idleTimeout,
            "half-close-timeout": tunnel.halfCloseTimeout,
        }
        documented = self.documented("### [ptunnel]") | self.documented("### [tunnel NAME]")
        for key, seconds in defaults.items():
            self.assertEqual(parseDuration(code(documented[key])[0]), seconds, key)


def keysOfTheProgram(kind: str) -> set[str]:
    """The keys of a section, from what the program says about one that it does not know."""
    header = kind if kind == "ptunnel" else f"{kind} x"
    path = Path("keys.ini")
    path.write_text(f"[{header}]\n0123456789 = x\n")
    try:
        loadSettings(CommandLine(configFile=str(path)), {})
    except ConfigError as e:
        return set(str(e).partition("known are ")[2].split(", "))
    raise AssertionError("an unknown key is taken")


class ErrorPageTests(SynchronousTestCase):
    """docs/errors.md has each failure of a handshake, word for word."""

    def assertExplained(self, error: TunnelError) -> None:
        line = re.sub(r"TARGET:\d+", "TARGET", error.message)
        line = re.sub(r"within \d+ s", "within N s", line)
        line = re.sub(r"(: \d+)( .*)?$", "", line)  # a status has more to it than one line has
        line = line.removeprefix("the proxy PROXY ")
        text = ERRORS.read_text("utf-8")
        self.assertIn(line, text)
        self.assertIn(re.sub(r"port \d+$", "port N", error.hint), text)

    def test_everyAnswer(self) -> None:
        statuses = 302, 400, 403, 404, 405, 407, 501, 502, 503, 504
        refusals = [f"HTTP/1.1 {n} No\r\nContent-Length: 0\r\n\r\n".encode() for n in statuses]
        garbage = [
            b"SSH-2.0-OpenSSH\r\n",
            b"\x15\x03\x01\x00\x02\x02\x46",
            b"220 hello\r\n",
            b"HTTP/1.1 200 OK\r\nA: \0\r\n",
            b"HTTP/1.1 200 OK\r\nA: " + 70_000 * b"a",
            b"HTTP/1.1 403 No\r\n" + 201 * b"A: a\r\n",
            b"HTTP/1.1 101 No\r\n\r\n",
            20 * b"HTTP/1.1 100 Continue\r\n\r\n",
        ]
        for answer in [*refusals, *garbage]:
            for port, authenticated in (443, False), (993, True):
                handshake = Handshake("TARGET", port, hop="PROXY", authenticated=authenticated)
                error = self.assertRaises(TunnelError, handshake.feed, answer)
                self.assertExplained(error)

    def test_everySilence(self) -> None:
        for answer in b"", b"HTTP/1.1 200":
            handshake = Handshake("TARGET", 993, hop="PROXY")
            if answer:
                handshake.feed(answer)
            self.assertExplained(handshake.end())
            self.assertExplained(handshake.expire(30))

    def test_everySocksAnswer(self) -> None:
        text = ERRORS.read_text("utf-8")
        for answers in (
            [b"HTTP/1.0 400"],
            [b"\x15\x03"],
            [b"SSH-"],
            [b"220 "],
            [b"\5\3"],
            [b"\5\0\0"],
            [b"\5\xff"],
            [b"\5\2", b"\1\1"],
            [b"\5\2", b"\2\1"],
            [b"\5\0", b"\4"],
            [b"\5\0", b"\5\0\0\2"],
            *([b"\5\0", bytes([5, code])] for code in (1, 2, 3, 4, 5, 6, 7, 8, 240)),
        ):
            for hasLogin in True, False:
                for failure in self.socksFailures(hasLogin, answers):
                    line = re.sub(r"\b(method|type|status) \d+", r"\1 N", failure.message)
                    line = re.sub(r"TARGET:\d+", "TARGET", line).replace("30 s", "N s")
                    for part in re.split(r": SOCKS reply \d+(?:, )?", line):
                        self.assertIn(part.removeprefix("the proxy PROXY "), text)
                    self.assertIn(failure.hint, text)

    def socksFailures(self, hasLogin: bool, answers: list[bytes]) -> Iterator[TunnelError]:
        """The failure that these answers lead to, and those of an end or silence before it."""

        def after(count: int) -> ClientHandshake:
            handshake = ClientHandshake("TARGET", 993, hop="PROXY", hasLogin=hasLogin)
            handshake.greeting()
            for answer in answers[:count]:
                handshake.feed(answer)
                if handshake.phase is SocksPhase.ASKED:
                    handshake.login(Credentials("alice", "word"))
                else:
                    handshake.request("TARGET", 993)
            return handshake

        try:
            for count in range(len(answers) + 1):
                yield after(count).end()
                yield after(count).expire(30)
        except TunnelError as e:
            yield e


class EmbeddingTests(SynchronousTestCase):
    def test_theExamplePassesMypyAsTheManualSetsItUp(self) -> None:
        for name in "mypy", "mypy_zope":
            if importlib.util.find_spec(name) is None:
                raise SkipTest(f"{name} is not installed")
        folder = Path(self.mktemp())
        folder.mkdir()
        [config] = blocks(EMBEDDING, "toml")
        [program] = blocks(README, "python")
        (folder / "pyproject.toml").write_text(config, "utf-8")
        (folder / "program.py").write_text(program, "utf-8")
        wrong = program.replace("(target, name=", "(target, names=")
        (folder / "wrong.py").write_text(wrong, "utf-8")
        for name, code in ("program.py", 0), ("wrong.py", 1):
            done = subprocess.run(
                [sys.executable, "-m", "mypy", name],
                cwd=folder,
                capture_output=True,
                text=True,
                check=False,
                timeout=300,
            )
            self.assertEqual(done.returncode, code, done.stdout + done.stderr)

    def test_theExampleCarriesBytesBothWays(self) -> None:
        [program] = blocks(README, "python")
        with contextlib.closing(TinyProxy()) as proxy:
            for name, value in ("proxyAddress", proxy.address), ("localPort", 0):
                program, count = re.subn(rf"(?m)^{name} = .*$", f"{name} = {value!r}", program)
                self.assertEqual(count, 1)
            path = Path(self.mktemp())
            path.write_text(program, "utf-8")
            running = subprocess.Popen(
                [sys.executable, str(path)],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
            self.addCleanup(end, running)
            timer = threading.Timer(PATIENCE, running.kill)
            timer.start()
            self.addCleanup(timer.cancel)
            assert running.stdout is not None
            said = running.stdout.readline()
            found = re.fullmatch(r"listening on (\d+)\n", said)
            assert found is not None, said
            self.converse(int(found[1]))
            [request] = proxy.requests
            self.assertTrue(request.startswith(b"CONNECT imap.example.com:143 HTTP/1.1\r\n"))
            self.assertIn(b"\r\nProxy-Authorization: Basic YWxpY2U6c2VjcmV0\r\n", request)

    def converse(self, port: int) -> None:
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
            stream = client.makefile("rb")
            self.assertEqual(stream.read(10), b"* hello to")
            client.sendall(b"ptunn")
            client.shutdown(socket.SHUT_WR)
            self.assertEqual(stream.read(), b"PTUNN")


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


class TinyProxy:
    """A proxy and its target in one: it wants credentials, greets in the segment of its answer,
    and echoes.

    @ivar requests: those that had credentials.
    """

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = self._server.getsockname()
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._server.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                with client:
                    client.settimeout(PATIENCE)
                    self._talk(client)

    def _talk(self, client: socket.socket) -> None:
        request = b""
        while b"\r\nProxy-Authorization: " not in request:
            if request:
                client.sendall(CHALLENGE)
            request = b""
            while b"\r\n\r\n" not in request:
                if not (data := client.recv(4096)):
                    return
                request += data
        self.requests.append(request)
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n* hello to")
        while data := client.recv(4096):
            client.sendall(data.upper())
