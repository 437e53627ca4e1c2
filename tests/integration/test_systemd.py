"""README's words for a service, followed as root on a machine with a systemd of its own.

The machine is a container of systemd-nspawn without a network. Its files are those of this one,
under an overlay that is thrown away.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import re
import shutil
import subprocess
import tempfile
from base64 import b64decode
from pathlib import Path
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from ptunnel import __version__

ROOT = Path(__file__).resolve().parents[2]
# Seconds for what has hung, which is no part of what is tested.
PATIENCE = 300

TARGET = """\
[Unit]
Requires=multi.service
"""
SCRIPT_UNIT = """\
[Unit]
After=basic.target
SuccessAction=poweroff
FailureAction=poweroff
[Service]
Type=oneshot
ExecStart=/bin/bash /root/script
StandardOutput=file:/root/output
StandardError=inherit
WorkingDirectory=/root/ptunnel
"""

# A proxy that answers as it is told by its first argument, and echoes.
PROXY = """\
import os, socket, ssl, sys, threading

def talk(client):
    if os.path.exists("/tmp/key"):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain("/tmp/cert", "/tmp/key")
        client = context.wrap_socket(client, server_side=True)
    request = b""
    while b"\\r\\n\\r\\n" not in request:
        if not (data := client.recv(4096)):
            return
        request += data
    with open("/tmp/requests", "ab") as file:
        file.write(request)
    client.sendall(b"HTTP/1.1 " + sys.argv[1].encode() + b"\\r\\n\\r\\n")
    if sys.argv[1].startswith("2"):
        client.sendall(client.recv(4096) * (2_000_000 if "bulk" in sys.argv[1] else 1))
    if isinstance(client, ssl.SSLSocket):
        client = client.unwrap()
    client.close()

server = socket.create_server(("127.0.0.1", 3128))
while True:
    threading.Thread(target=talk, args=server.accept()[:1], daemon=True).start()
"""
CLIENT = """\
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1])), 60) as client:
    client.sendall(b"hello")
    data = b"".join(iter(lambda: client.recv(65536), b""))
    print("got", data if len(data) < 10 else len(data))
"""


class Machine:
    """@ivar root: where its files are."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._name = f"ptunnel-{os.getpid()}"
        self.root = folder / "root"
        self._mounted: list[Path] = []

    def open(self) -> None:
        """@raise SkipTest: where none can be made."""
        if os.getuid() != 0 or not shutil.which("systemd-nspawn"):
            raise SkipTest("root and systemd-nspawn are needed")
        layers = self._folder / "layers"
        for path in self.root, layers:
            path.mkdir()
        try:
            self._mount(layers, "-t", "tmpfs", "tmpfs")
            (layers / "upper").mkdir()
            (layers / "work").mkdir()
            how = f"lowerdir=/,upperdir={layers}/upper,workdir={layers}/work"
            self._mount(self.root, "-t", "overlay", "-o", how, "overlay")
            self.run("true")
        except subprocess.CalledProcessError as e:
            raise SkipTest(f"no container can be started here: {e.stdout}") from None

    def _mount(self, where: Path, *how: str) -> None:
        command(["mount", *how, str(where)])
        self._mounted.append(where)

    def close(self) -> None:
        for path in reversed(self._mounted):
            command(["umount", str(path)])
        with contextlib.suppress(OSError):  # which systemd-nspawn leaves
            os.rmdir(f"/run/systemd/nspawn/propagate/{self._name}")

    def run(self, script: str, *options: str) -> str:
        """Run a script in it, while no systemd runs; without options, with this machine's network.

        @param options: of systemd-nspawn.
        """
        return command([*self._nspawn(), *options, "--pipe", "/bin/bash", "-euc", script])

    def boot(self, script: str) -> str:
        """Boot it for a script, which is run as root. @return: what it has printed."""
        units = self.root / "etc/systemd/system"
        (units / "multi.service").write_text(SCRIPT_UNIT)
        (units / "multi.target").write_text(TARGET)
        (self.root / "root/script").write_text(script)
        said = self.root / "root/output"
        said.unlink(missing_ok=True)
        console = command([*self._nspawn(), "--private-network", "-b", "systemd.unit=multi.target"])
        if not said.exists():
            raise AssertionError(f"its systemd has not run the script:\n{console}")
        return said.read_text()

    def _nspawn(self) -> list[str]:
        options = ["-q", "--register=no", "--keep-unit", "--link-journal=no", "-M", self._name]
        return ["systemd-nspawn", *options, "-D", str(self.root)]


def command(words: list[str]) -> str:
    """@raise subprocess.CalledProcessError: with what it wrote."""
    done = subprocess.run(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=PATIENCE,
        check=True,
    )
    return done.stdout


def commands(page: str, heading: str) -> list[str]:
    """The commands that a page shows between a heading and the next one, block by block."""
    _, _, rest = f"\n{(ROOT / page).read_text('utf-8')}".partition(f"\n{heading}\n")
    return re.findall(r"```sh\n(.*?)```", rest.partition("\n## ")[0], re.DOTALL)


def readmesCommands() -> tuple[str, str, list[str]]:
    """The commands of README's part about a service: those before systemd's, from there on, and
    those after a change of the config file, one by one.
    """
    first, second = commands("README.md", "## As a service")
    before, systemctl, after = first.partition("systemctl")
    return before, systemctl + after, second.splitlines()


@functools.cache
def installed() -> Machine:
    """One machine for all tests, on which README's words were followed up to those for systemd."""
    folder = Path(tempfile.mkdtemp(prefix="ptunnel-systemd-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    machine = Machine(folder)
    atexit.register(machine.close)
    machine.open()
    home = machine.root / "root"
    command(["git", "clone", "--quiet", str(ROOT), str(home / "ptunnel")])
    changed = command(["git", "-C", str(ROOT), "ls-files", "-mo", "--exclude-standard"])
    for name in changed.split():  # the present state, also where it is not committed
        (home / "ptunnel" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, home / "ptunnel" / name)
    (home / "proxy.py").write_text(PROXY)
    (home / "client.py").write_text(CLIENT)
    machine.run(f"umask 077; cd /root/ptunnel; {readmesCommands()[0]}")
    return machine


class SystemdCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.machine = installed()
        self.settings = self.machine.root / "etc/ptunnel/tunnels.ini"
        before = self.settings.read_text()
        self.addCleanup(self.settings.write_text, before)

    def dropIn(self, text: str) -> None:
        """Change the unit, as `systemctl edit ptunnel` does."""
        folder = self.machine.root / "etc/systemd/system/ptunnel.service.d"
        folder.mkdir()
        self.addCleanup(shutil.rmtree, folder)
        (folder / "override.conf").write_text(text)

    def boot(self, *lines: str) -> dict[str, str]:
        """Boot for these commands. @return: what they print, by the words behind `echo =`."""
        said = self.machine.boot("\n".join(lines))
        # Machines of two test runs have one control group.
        said = re.sub(r"(?m)^.*: Failed to kill control group .*\n", "", said)
        parts = re.split(r"(?m)^= (.*)\n", said)
        return dict(zip(parts[1::2], parts[2::2], strict=True))


class ReadmeTests(SystemdCase):
    def test_itsFirstWordsInstall(self) -> None:
        install = commands("README.md", "# ptunnel")[0]
        said = self.machine.run(f"cd /root/ptunnel; {install}\ncd /; ptunnel --version")
        self.assertIn(f"\nptunnel {__version__}\n", said)  # systemd-nspawn may add a line

    def test_theServiceRunsAndTellsItsStateAndItsFailures(self) -> None:
        said = self.boot(
            "echo = start",
            readmesCommands()[1],
            "systemctl is-active ptunnel",
            "systemctl show ptunnel -p StatusText -p User -p NRestarts -p WatchdogUSec",
            "echo = carry",
            proxied("200 OK"),
            "echo = bulk",
            proxied("200 bulk"),
            "echo = refuse",
            proxied("403 No"),
            "echo = warnings",
            "journalctl --sync; journalctl -b -u ptunnel -p warning -o json",
            "echo = journal",
            "journalctl -b -u ptunnel -o json",
            "echo = status",
            "systemctl status ptunnel",
            "echo = stop",
            "systemctl disable --now ptunnel",
            "systemctl show ptunnel -p Result -p ExecMainStatus",
        )
        self.assertIn("active\n", said["start"])
        for line in "User=ptunnel", "NRestarts=0", "WatchdogUSec=1min":
            self.assertIn(line, said["start"])
        self.assertIn("StatusText=2 tunnels and 1 door listening, 0 sessions", said["start"])
        self.assertEqual(said["carry"], "got b'hello'\n")
        self.assertEqual(said["bulk"], "got 10000000\n")
        self.assertEqual(said["refuse"], "got b''\n")
        [warning] = map(json.loads, said["warnings"].splitlines())
        self.assertTrue(warning["MESSAGE"].startswith("imap: 127.0.0.1:"), warning)
        self.assertIn(" gets no tunnel: ", warning["MESSAGE"])
        self.assertEqual(warning["PRIORITY"], "4")
        ours = [e for e in map(json.loads, said["journal"].splitlines()) if "ptunnel" in e["_COMM"]]
        self.assertIn("imap: listening on 127.0.0.1:9993, ", ours[0]["MESSAGE"])
        self.assertEqual(ours[0]["PRIORITY"], "5")
        self.assertIn('Status: "2 tunnels and 1 door listening, ', said["status"])
        self.assertIn("Result=success\n", said["stop"])
        self.assertIn("ExecMainStatus=0\n", said["stop"])

    def test_itsWordsForAChange(self) -> None:
        check, reload, status, warnings = readmesCommands()[2]
        tunnel = "[tunnel b]\\nlisten = 9995\\ntarget = b.example:1\\n"
        said = self.boot(
            readmesCommands()[1],
            f"printf '{tunnel}' >> /etc/ptunnel/tunnels.ini",
            "echo = check",
            check,
            "echo = reload",
            reload,
            "until python3 /root/client.py 9995 2>/dev/null; do sleep .1; done",
            "echo = carry",
            proxied("200 OK", port=9995),
            "echo = refuse",
            proxied("403 No"),
            "echo = status",
            status,
            "echo = warnings",
            "journalctl --sync",
            warnings,
            "echo = end",
        )
        self.assertIn("/etc/ptunnel/tunnels.ini: no mistake: 3 tunnels, ", said["check"])
        self.assertTrue(said["reload"].endswith("got b''\n"), said["reload"])
        self.assertEqual(said["carry"], "got b'hello'\n")
        self.assertEqual(said["refuse"], "got b''\n")
        self.assertRegex(
            said["status"],
            r'Active: active \(running\)(.*\n)+ +Status: "3 tunnels '
            r'and 1 door listening, \d sessions?"',
        )
        lines = [line for line in said["warnings"].splitlines() if not line.startswith("-- ")]
        for line in lines:
            # The journal's own time, host and program; then the words, and no time of their own.
            found = re.fullmatch(r"\w{3} \d\d \d\d:\d\d:\d\d \S+ ptunnel\[\d+\]: (.*)", line)
            assert found is not None, line
            self.assertRegex(found[1], r"\A(imap|b): 127\.0\.0\.1:\d+ gets no tunnel: .*, SC\Z")
            self.assertNotRegex(found[1], r"\d\d:\d\d:\d\d|<\d>")
        self.assertTrue(any("403 No" in line for line in lines), lines)

    def test_itsStatusAddressAnswersFromWithinTheSandbox(self) -> None:
        readme = (ROOT / "README.md").read_text("utf-8")
        found = re.search(r"`(status = \S+)` in `\[ptunnel\]` adds a page", readme)
        assert found is not None
        text = self.settings.read_text()
        for key in found[1], "status = unix:/run/ptunnel/status.socket":
            self.settings.write_text(text.replace("[ptunnel]\n", f"[ptunnel]\n{key}\n"))
            said = self.boot(
                readmesCommands()[1],
                proxied("200 OK"),
                "echo = status",
                "/opt/ptunnel/bin/ptunnel status",
                "echo = reload",
                "/opt/ptunnel/bin/ptunnel reload || echo no",
                "echo = warnings",
                "journalctl --sync; journalctl -b -u ptunnel -p warning -o cat _COMM=ptunnel",
            )
            self.assertRegex(said["status"], r"(?m)^ *imap +.*imap\.gmail\.com:993")
            self.assertEqual(said["warnings"], "")
            self.assertEqual("reloaded: " in said["reload"], "unix:" in key, said["reload"])


class UnitTests(SystemdCase):
    """What conf/ptunnel.service does when things go another way."""

    def test_aMistakeInTheConfigIsAnErrorInTheJournalAndNotTriedAgain(self) -> None:
        self.settings.write_text("[tunnel a]\nlisten = 99999\ntarget = a:1\n")
        said = self.boot(
            "systemctl start ptunnel; sleep 7",
            "echo = state",
            "systemctl show ptunnel -p NRestarts -p ExecMainStatus -p ActiveState",
            "echo = errors",
            "journalctl --sync; journalctl -b -u ptunnel -p err -o cat _COMM=ptunnel",
        )
        for line in "NRestarts=0", "ExecMainStatus=2", "ActiveState=failed":
            self.assertIn(line, said["state"])
        [line] = said["errors"].splitlines()
        self.assertIn("/etc/ptunnel/tunnels.ini: [tunnel a] listen: ", line)

    def test_aReloadChangesWhatTheFileSaysAndAMistakeNothing(self) -> None:
        tunnel = "[tunnel b]\\nlisten = 9995\\ntarget = b:1\\n"
        states = "-p ActiveState -p StatusText -p NRestarts"
        change, _ = commands("docs/service.md", "## Change it")
        said = self.boot(
            "systemctl start ptunnel; pid=$(systemctl show ptunnel -p MainPID --value)",
            f"printf '{tunnel}' >> /etc/ptunnel/tunnels.ini",
            change,
            "until python3 /root/client.py 9995 2>/dev/null; do sleep .1; done",
            "echo = reloaded",
            f"systemctl show ptunnel {states}",
            "[ $pid = $(systemctl show ptunnel -p MainPID --value) ] && echo the same process",
            "echo listn = 1 >> /etc/ptunnel/tunnels.ini",
            "echo = check",
            change,
            "for i in {1..300}; do journalctl --sync; journalctl -b -u ptunnel -p err -o cat "
            "_COMM=ptunnel | grep . && break; sleep .1; done > /tmp/errors",
            "echo = broken",
            f"systemctl show ptunnel {states}",
            "[ $pid = $(systemctl show ptunnel -p MainPID --value) ] && echo the same process",
            "echo = errors",
            "cat /tmp/errors",
        )
        for state in "reloaded", "broken":
            self.assertEqual(
                sorted(said[state].splitlines()),
                [
                    "ActiveState=active",
                    "NRestarts=0",
                    "StatusText=3 tunnels and 1 door listening, 0 sessions",
                    "the same process",
                ],
            )
        self.assertIn("ptunnel: /etc/ptunnel/tunnels.ini: [tunnel b] listn: unknown", said["check"])
        [line] = said["errors"].splitlines()
        self.assertIn("not reloaded: ", line)
        self.assertIn("[tunnel b] listn: unknown key", line)

    def test_SIGUSR2ExchangesTheProcess(self) -> None:
        handOver = "[ptunnel]\nhand-over = unix:/run/ptunnel/next\n"
        self.settings.write_text(handOver + self.settings.read_text().replace("[ptunnel]\n", ""))
        said = self.boot(
            "systemctl start ptunnel; pid=$(systemctl show ptunnel -p MainPID --value)",
            "systemctl kill --kill-whom=main --signal=USR2 ptunnel",
            "for i in {1..200}; do [ -d /proc/$pid ] || break; sleep .1; done",
            "now=$(systemctl show ptunnel -p MainPID --value)",
            "echo = state",
            "[ $now != $pid ] && [ -d /proc/$now ] && echo another process",
            "systemctl is-active ptunnel; systemctl show ptunnel -p NRestarts",
            "systemctl show ptunnel -p StatusText --value",
            "echo = carry",
            proxied("200 OK"),
            "echo = warnings",
            "journalctl --sync; journalctl -b -u ptunnel -p warning -o cat",
            "echo = stop",
            "systemctl stop ptunnel; systemctl show ptunnel -p Result -p ExecMainStatus",
        )
        self.assertEqual(
            said["state"],
            "another process\nactive\nNRestarts=0\n2 tunnels and 1 door listening, 0 sessions\n",
        )
        self.assertEqual((said["carry"], said["warnings"]), ("got b'hello'\n", ""))
        self.assertIn("Result=success\n", said["stop"])
        self.assertIn("ExecMainStatus=0\n", said["stop"])

    def test_inItsSandboxPasswordsComeByCredentialAndByCommand(self) -> None:
        (self.machine.root / "etc/ptunnel/corp.password").write_text("secret\n")
        (self.machine.root / "etc/ptunnel/corp.password").chmod(0o600)
        self.dropIn("[Service]\nLoadCredential=corp:/etc/ptunnel/corp.password\n")
        asked = "echo ${NOTIFY_SOCKET-none}; true"
        self.settings.write_text(
            "[proxy a]\nurl = 127.0.0.1:3128\nusername = u\nauth = basic\n"
            "password-file = credential:corp\n"
            "[proxy b]\nurl = 127.0.0.1:3128\nusername = u\nauth = basic\n"
            f"password-command = {asked}\n"
            "[tunnel a]\nlisten = 9993\ntarget = a:1\nvia = a\n"
            "[tunnel b]\nlisten = 9994\ntarget = b:1\nvia = b\n"
        )
        said = self.boot(
            "systemctl start ptunnel",
            "echo = a",
            proxied("200 OK"),
            "echo = b",
            proxied("200 OK", port=9994),
            "echo = asked",
            "cat /tmp/requests",
            "echo = warnings",
            "journalctl --sync; journalctl -b -u ptunnel -p warning -o cat _COMM=ptunnel",
        )
        self.assertEqual((said["a"], said["b"]), 2 * ("got b'hello'\n",), said["warnings"])
        sent = re.findall(r"Basic (\S+)", said["asked"])
        self.assertEqual([b64decode(value) for value in sent], [b"u:secret", b"u:none"])

    def test_itsSandboxLetsTLSVerify(self) -> None:
        # OpenSSL calls back into Python, which takes memory that some sandboxes forbid.
        self.dropIn("[Service]\nLoadCredential=ca:/tmp/cert\n")
        self.settings.write_text(
            "[proxy a]\nurl = https://127.0.0.1:3128\n"
            "ca-file = /run/credentials/ptunnel.service/ca\n"
            "[proxy b]\nurl = https://127.0.0.1:3128\n"
            "[tunnel a]\nlisten = 9993\ntarget = a:1\nvia = a\n"
            "[tunnel b]\nlisten = 9994\ntarget = b:1\nvia = b\n"
        )
        said = self.boot(
            "openssl req -x509 -newkey rsa:2048 -nodes -keyout /tmp/key -out /tmp/cert -days 2 "
            "-subj /CN=x -addext subjectAltName=IP:127.0.0.1 2>/dev/null",
            "systemctl start ptunnel",
            "echo = verified",
            proxied("200 OK") + " 2>/dev/null",
            "echo = unknown",
            proxied("200 OK", port=9994) + " 2>/dev/null",
            "echo = warnings",
            "journalctl --sync; journalctl -b -u ptunnel -p warning -o cat _COMM=ptunnel",
        )
        self.assertIn("got b'hello'\n", said["verified"], said["warnings"])
        self.assertIn("got b''\n", said["unknown"])
        [line] = said["warnings"].splitlines()
        self.assertIn("certificate", line)

    def test_aServiceThatHangsIsStartedAgain(self) -> None:
        self.dropIn("[Service]\nWatchdogSec=10\nRestartSec=100ms\n")
        said = self.boot(
            "systemctl start ptunnel",
            "kill -STOP $(systemctl show ptunnel -p MainPID --value)",
            "for i in {1..60}; do [ $(systemctl show ptunnel -p NRestarts --value) = 0 ] || break",
            "sleep 1; done; sleep 15",
            "echo = state",
            "systemctl show ptunnel -p NRestarts; systemctl is-active ptunnel",
        )
        self.assertEqual(said["state"], "NRestarts=1\nactive\n")

    def test_theSocketUnitPassesAPortBelow1024(self) -> None:
        [install] = commands("docs/service.md", "## A port below 1024")
        tunnel = "[tunnel low]\\nlisten = systemd:domain=INET:index=0\\ntarget = a:1\\n"
        said = self.boot(
            readmesCommands()[1],
            f"printf '{tunnel}' >> /etc/ptunnel/tunnels.ini",
            install,
            "echo = before",
            "systemctl is-active ptunnel.service ptunnel.socket",
            "echo = carry",
            proxied("200 OK", port=993),
            "echo = restart",
            "systemctl restart --no-block ptunnel.service",
            proxied("200 OK", port=993, visits=10),
            "echo = behind",
            "systemctl is-active ptunnel.service",
            "systemctl disable --now ptunnel.socket; rm /etc/systemd/system/ptunnel.socket",
        )
        self.assertEqual(said["before"], "active\nactive\n")
        self.assertEqual(said["carry"], "got b'hello'\n")
        self.assertEqual(said["restart"], 10 * "got b'hello'\n")
        self.assertTrue(said["behind"].startswith("active\n"), said["behind"])

    def test_underWorkersTheParentTellsAndTheyHaveLevelsToo(self) -> None:
        self.settings.write_text(
            "[ptunnel]\nworkers = 2\n[proxy a]\nurl = 127.0.0.1:3128\n"
            "[tunnel a]\nlisten = 9993\ntarget = a:1\n"
        )
        said = self.boot(
            "systemctl start ptunnel",
            "for i in {1..60}; do systemctl show ptunnel -p StatusText --value | "
            "grep ' 2 of 2 ' && break; sleep 1; done > /tmp/ready",
            "echo = state",
            "systemctl is-active ptunnel; systemctl show ptunnel -p StatusText --value",
            "echo = refuse",
            proxied("403 No"),
            "echo = warnings",
            "journalctl --sync; journalctl -b -u ptunnel -p warning -o cat _COMM=ptunnel",
        )
        self.assertEqual(
            said["state"], "active\n1 tunnel listening, 0 sessions in 2 of 2 workers\n"
        )
        [line] = said["warnings"].splitlines()
        self.assertRegex(line, r"^worker [12]: a: 127\.0\.0\.1:\d+ gets no tunnel: ")


class ContainerTests(SystemdCase):
    """What conf/Containerfile promises, with what it installs."""

    def test_itServesWithoutPrivilegesAndWritesNothing(self) -> None:
        user = "--reuid=65532 --regid=65532 --clear-groups --bounding-set=-all --no-new-privs"
        said = self.machine.run(
            "cd /; export PTUNNEL_CONFIG=/etc/ptunnel/tunnels.ini\n"
            f"setpriv {user} /opt/ptunnel/bin/ptunnel run --log-format=json --drain-timeout=5s "
            "> /tmp/log 2>&1 & running=$!\n"
            "while ! grep -q listening /tmp/log; do sleep .1; done\n"
            f"{proxied('200 OK')}\n"
            "kill $running; wait $running && echo ended with $?\n"
            "grep -c warning /tmp/log || true",
            "--read-only",
            "--private-network",
        )
        self.assertIn("got b'hello'\nended with 0\n0\n", said)  # systemd-nspawn may add a line


def proxied(answer: str, port: int = 9993, visits: int = 1) -> str:
    """The commands of a client's visits, with a proxy that answers so."""
    proxy = f"python3 /root/proxy.py '{answer}' & while ! bash -c '</dev/tcp/127.0.0.1/3128'"
    client = f"for i in {{1..{visits}}}; do python3 /root/client.py {port}; done"
    end = "{ kill $!; wait $! || true; } 2>/dev/null"
    return f"{proxy} 2>/dev/null; do sleep .1; done; {client}; {end}"
