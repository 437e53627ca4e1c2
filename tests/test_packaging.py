"""The wheel: what is in it, and that what it installs works."""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib.util
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import venv
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ptunnel import __version__

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "ptunnel"

# Seconds for a program that has hung, which is no part of what is tested.
PATIENCE = 60
NO_BUILD = None if importlib.util.find_spec("build") else "build is not installed"


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """Run a command to its end; gives what it wrote."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, f"{command} failed:\n{done.stdout}"
    return done.stdout


def hasSetuptools() -> bool:
    """Whether what the build needs is here; else `build` fetches it for itself."""
    try:
        return int(version("setuptools").partition(".")[0]) >= 68
    except PackageNotFoundError:
        return False


@functools.cache
def folder() -> Path:
    """One for all tests of this module."""
    path = Path(tempfile.mkdtemp(prefix="ptunnel-wheel-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


@functools.cache
def wheel() -> Path:
    """Built from a copy, because a build leaves its traces beside the source."""
    tree = folder() / "tree"
    tree.mkdir()
    for name in "pyproject.toml", "README.md", "LICENSE":
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, tree)
    for name in "src", "tests", "conf", "docs/man":
        leftOut = shutil.ignore_patterns("*.egg-info", "__pycache__")
        shutil.copytree(ROOT / name, tree / name, ignore=leftOut)
    # Twisted writes it there when it looks for plugins of an editable install.
    (tree / "src" / "twisted" / "plugins" / "dropin.cache").write_bytes(b"stale")
    options = ["--wheel", "--outdir", str(folder())]
    if hasSetuptools():
        options.append("--no-isolation")
    run(sys.executable, "-m", "build", *options, tree)
    [built] = folder().glob("*.whl")
    return built


@functools.cache
def installed() -> Path:
    """The programs of an environment with nothing in it but the wheel and what that needs."""
    place = folder() / "venv"
    venv.create(place, with_pip=True)
    run(place / "bin" / "python", "-m", "pip", "install", "--quiet", wheel())
    return place / "bin"


class OneTunnel:
    """A proxy and its target in one, for one client.

    @ivar request: what the client has asked for.
    """

    def __init__(self) -> None:
        self.request = b""
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.close()
        self._thread.join(PATIENCE)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            client, _ = self._server.accept()
            with client:
                client.settimeout(PATIENCE)
                while b"\r\n\r\n" not in self.request:
                    self.request += client.recv(4096)
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\n* hello\n")


class WheelTests(SynchronousTestCase):
    skip = NO_BUILD

    def names(self) -> set[str]:
        with zipfile.ZipFile(wheel()) as archive:
            return set(archive.namelist())

    def test_itHoldsTheModulesThePageTheMarkerOfTypesThePluginTheManualAndNothingElse(self) -> None:
        modules = {f"ptunnel/{path.relative_to(PACKAGE)}" for path in PACKAGE.rglob("*.py")}
        self.assertIn("ptunnel/config/__init__.py", modules)
        page = {f"ptunnel/status/page/{path.name}" for path in (PACKAGE / "status/page").iterdir()}
        self.assertIn("ptunnel/status/page/index.html", page)
        about = f"ptunnel-{__version__}.dist-info/"
        share = f"ptunnel-{__version__}.data/data/share/man"
        others = {"ptunnel/py.typed", "ptunnel/pac/helpers.js", "twisted/plugins/ptunnel_plugin.py"}
        manual = {f"{share}/man1/ptunnel.1", f"{share}/man5/tunnels.ini.5"}
        self.assertEqual(
            {name for name in self.names() if not name.startswith(about)},
            modules | page | others | manual,
        )

    def test_itAddsToTwistedsPackagesAndDoesNotReplaceThem(self) -> None:
        for name in "twisted/__init__.py", "twisted/plugins/__init__.py":
            self.assertNotIn(name, self.names())

    def test_itIsForEveryPlatformAndHasTheVersionOfTheModule(self) -> None:
        self.assertEqual(wheel().name, f"ptunnel-{__version__}-py3-none-any.whl")

    def test_itNamesTheCommandAndCarriesTheLicense(self) -> None:
        about = f"ptunnel-{__version__}.dist-info"
        with zipfile.ZipFile(wheel()) as archive:
            entries = archive.read(f"{about}/entry_points.txt").decode()
        self.assertEqual(entries, "[console_scripts]\nptunnel = ptunnel.cli:main\n")
        self.assertTrue([name for name in self.names() if name.endswith("/LICENSE")])


class InstalledTests(SynchronousTestCase):
    skip = NO_BUILD

    def test_theCommandSaysItsVersion(self) -> None:
        self.assertEqual(run(installed() / "ptunnel", "-V"), f"ptunnel {__version__}\n")

    def test_manFindsItsPagesBesideIt(self) -> None:
        share = installed().parent / "share" / "man"
        for page in "man1/ptunnel.1", "man5/tunnels.ini.5":
            self.assertIn(".TH ", (share / page).read_text("utf-8"))

    def test_theModuleIsTheSameCommand(self) -> None:
        said = run(installed() / "python", "-m", "ptunnel", "-V", cwd=folder())
        self.assertEqual(said, f"ptunnel {__version__}\n")

    def test_twistdListsIt(self) -> None:
        said = run(installed() / "twistd", "--help", cwd=folder())
        [line] = [line for line in said.splitlines() if line.split()[:1] == ["ptunnel"]]
        self.assertIn("CONNECT", line)

    def test_twistdsOwnPluginsAreStillThere(self) -> None:
        said = run(installed() / "twistd", "--help", cwd=folder())
        self.assertTrue([line for line in said.splitlines() if line.split()[:1] == ["web"]])

    def test_anyProgramsEndpointStringsMayGoThroughAProxy(self) -> None:
        # The program is no part of ptunnel, and imports nothing of it.
        program = ROOT / "docs" / "examples" / "endpoint_string.py"
        with contextlib.closing(OneTunnel()) as proxy:
            through = rf"proxy=http\://127.0.0.1\:{proxy.port}"
            text = f"httpconnect:imap.example.com:143:{through}"
            said = run(installed() / "python", "-I", program, text, cwd=folder())
        self.assertEqual(said, "* hello\n")
        self.assertTrue(proxy.request.startswith(b"CONNECT imap.example.com:143 HTTP/1.1\r\n"))

    def test_whatItNeedsIsInstalledWithIt(self) -> None:
        run(installed() / "python", "-m", "pip", "check")
        run(installed() / "python", "-c", "import ptunnel.cli, ptunnel.tap", cwd=folder())
