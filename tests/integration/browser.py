"""A browser for the tests of the status page: headless Chromium, driven by selenium, and the
status server with a service that is none (tests/support/watched.py).
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import socket
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from selenium import webdriver
from selenium.common.exceptions import JavascriptException, StaleElementReferenceException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from tests.integration.case import IntegrationTestCase, Peer, relay
from tests.integration.programs import (
    AM_ROOT,
    HOST,
    NO_PROXY_SETTINGS,
    PATIENCE,
    Program,
    required,
)

T = TypeVar("T")

ROOT = Path(__file__).parent.parent.parent
STRANGER = "evil.example"
"""A name of somebody else that leads to this machine."""

# Chromium asks for updates, lists and experiments of its own: none of that, and no name resolves.
_FLAGS = (
    "--headless=new",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
    "--disable-domain-reliability",
    "--disable-extensions",
    "--disable-features=OptimizationHints,MediaRouter,Translate,AutofillServerCommunication",
    "--disable-gpu",
    "--disable-sync",
    "--hide-scrollbars",
    "--metrics-recording-only",
    "--no-default-browser-check",
    "--no-first-run",
    "--no-pings",
    f"--host-resolver-rules=MAP {STRANGER} {HOST}, MAP * ~NOTFOUND, "
    f"EXCLUDE {HOST}, EXCLUDE localhost",
)


@functools.cache
def chromium() -> webdriver.Chrome:
    """One browser for all tests; it ends with the test run."""
    return chromiumWith("--no-proxy-server")


def chromiumWith(*flags: str) -> webdriver.Chrome:
    """A browser with further flags; it ends with the test run."""
    binary, driver = required("chromium"), required("chromedriver")
    profile = tempfile.mkdtemp(prefix="ptunnel-chromium-")
    atexit.register(shutil.rmtree, profile, ignore_errors=True)
    options = Options()
    options.binary_location = binary
    options.add_argument(f"--user-data-dir={profile}")
    for flag in (*_FLAGS, *flags):
        options.add_argument(flag)
    if AM_ROOT:
        options.add_argument("--no-sandbox")  # which root cannot have
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    options.ignore_local_proxy_environment_variables()
    service = Service(driver, env={**NO_PROXY_SETTINGS, "HOME": profile})
    browser = webdriver.Chrome(options=options, service=service)
    atexit.register(browser.quit)
    browser.set_page_load_timeout(PATIENCE)
    browser.set_script_timeout(PATIENCE)
    return browser


class FakeStatus(Program):
    """The status server with a service that is none."""

    TOKEN = "token-of-the-tests"

    def __init__(self, *words: str) -> None:
        self._words = words
        super().__init__()

    def arguments(self) -> list[str]:
        return [sys.executable, "-m", "tests.support.statusserver", *self.address(), *self._words]

    def run(self, code: str) -> None:
        """Start again, with this code in place of the module."""
        self._command[1:3] = ["-c", code]
        self.start()

    def address(self) -> list[str]:
        """The words about where it listens, and who may steer."""
        self.token = Path(self.write("token", self.TOKEN))
        self.token.chmod(0o600)
        return [str(self.port), "--token-file", str(self.token)]

    def environment(self) -> Mapping[str, str]:
        return {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "src")))}

    def url(self, path: str = "") -> str:
        return f"http://{HOST}:{self.port}/{path}"

    def asked(self, path: str = "") -> Any:
        """What the API answers."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(self.url(f"api/v1/{path}"), timeout=PATIENCE) as answer:
            return json.load(answer)

    def numbers(self, query: str = "") -> list[int]:
        """The sessions that it lists."""
        return [session["number"] for session in self.asked(f"sessions?{query}")["sessions"]]


class FakeLookOnly(FakeStatus):
    """The same without a token, so that nobody may steer."""

    def address(self) -> list[str]:
        return [str(self.port)]


class FakeUnixStatus(FakeStatus):
    """The same on a Unix socket, to which a port leads as that of `ssh -L`: no token is needed."""

    def address(self) -> list[str]:
        self._path = str(self.folder / "socket")
        self._forwarder = Peer(self._forward)
        self.port = self._forwarder.port
        return [f"unix:{self._path}"]

    def ready(self) -> bool:
        return os.path.exists(self._path)

    def stop(self) -> None:
        self._forwarder.stop()
        super().stop()

    def _forward(self, client: socket.socket) -> None:
        with socket.socket(socket.AF_UNIX) as server:
            server.connect(self._path)
            threading.Thread(target=relay, args=(server, client), daemon=True).start()
            relay(client, server)


class BrowserTestCase(IntegrationTestCase):
    """A tab of its own for each test, in which nothing may break the policy of the page."""

    def setUp(self) -> None:
        self.browser = chromium()
        first = self.browser.current_window_handle
        self.browser.switch_to.new_window("tab")
        self.browser.get_log("browser")
        self.browser.get_log("performance")

        def close() -> None:
            self.browser.close()
            self.browser.switch_to.window(first)

        self.addCleanup(close)

    # What the tab is like

    def command(self, name: str, **arguments: Any) -> Any:
        """A command of the DevTools protocol."""
        return self.browser.execute_cdp_cmd(name, arguments)

    def resize(self, width: int, height: int = 900) -> None:
        """Give the window a size, which below 500 pixels is that of a phone."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.command("Emulation.setDeviceMetricsOverride", **size)

    def prefer(self, **features: str) -> None:
        """Set media features, such as prefers_color_scheme="dark"."""
        each = [{"name": k.replace("_", "-"), "value": v} for k, v in features.items()]
        self.command("Emulation.setEmulatedMedia", features=each)

    # What is in it

    def js(self, script: str, *arguments: Any) -> Any:
        return self.browser.execute_script(script, *arguments)

    def later(self, script: str, *arguments: Any) -> Any:
        """What the promise that a script returns comes to, or the name of its error."""
        body = (
            f"const done = arguments[arguments.length - 1];"
            f"(async (...args) => {{ {script} }})(...arguments)"
            f".then(done, (error) => done(error.name));"
        )
        return self.browser.execute_async_script(body, *arguments)

    def one(self, selector: str) -> WebElement:
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        """The text of an element as the page has it, seen or not."""
        return str(self.js("return document.querySelector(arguments[0]).textContent", selector))

    def texts(self, selector: str) -> list[str]:
        script = "return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)"
        return list(self.js(script, selector))

    def seen(self, selector: str) -> bool:
        """Whether there is such an element that somebody sees."""
        return any(e.is_displayed() for e in self.browser.find_elements(By.CSS_SELECTOR, selector))

    def until(self, condition: Callable[[], T], what: str) -> T:
        """What `condition` returns, as soon as that is true. While a page is loaded, what it looks
        for is not there.
        """
        absent = StaleElementReferenceException, JavascriptException
        waiting = WebDriverWait(self.browser, PATIENCE, 0.05, ignored_exceptions=absent)
        return waiting.until(lambda _: condition(), what)  # type: ignore[arg-type, return-value]

    def changes(self, look: Callable[..., object], *words: object) -> None:
        """Wait until what `look` sees with these arguments is something else."""
        before = look(*words)
        self.until(lambda: look(*words) != before, f"what is seen changes: {words}")

    # What it has done

    def network(self, kind: str) -> list[dict[str, Any]]:
        """What has happened on the network since the last call, by the protocol's name."""
        events = (json.loads(e["message"])["message"] for e in self.browser.get_log("performance"))
        return [e["params"] for e in events if e["method"] == f"Network.{kind}"]

    def urls(self) -> list[str]:
        """The URLs that the tab has asked for since the last call."""
        return [each["request"]["url"] for each in self.network("requestWillBeSent")]

    def hears(self, size: int) -> None:
        """Wait until this many bytes have come since the last call."""
        came = 0

        def enough() -> bool:
            nonlocal came
            came += sum(each["dataLength"] for each in self.network("dataReceived"))
            return came >= size

        self.until(enough, f"{size} bytes have come")

    def complaints(self) -> list[str]:
        """What the browser has said since the last call."""
        return [entry["message"] for entry in self.browser.get_log("browser")]


class PageTestCase(BrowserTestCase):
    """The status page, open."""

    def opened(self, server: FakeStatus) -> None:
        """Open it, and wait for the first figures."""
        self.server = server
        self.browser.get(server.url())
        self.until(lambda: self.text("#state") == "running", "the page has figures")
        self.until(lambda: self.seen("#session-table tbody tr"), "the page lists sessions")

    def unlock(self, token: str = FakeStatus.TOKEN) -> None:
        """Type the token, with which the page may steer."""
        self.one("#steer").click()
        self.until(lambda: self.seen("#token"), "the token is asked for")
        self.one("#token").send_keys(token)
        self.one("#dialog-yes").click()
        self.until(lambda: self.seen("#session-table tbody button"), "the page may steer")

    def shown(self) -> list[int]:
        """The numbers of the sessions in the table, from top to bottom."""
        return [int(text) for text in self.texts('#session-table tbody [data-field="number"]')]

    def line(self, chart: str) -> object:
        """The path of what is received."""
        script = "return document.querySelector(arguments[0] + ' .received').getAttribute('d')"
        return self.js(script, chart)
