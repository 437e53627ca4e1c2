"""The status page in a real browser: what it shows, and for whom."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from pathlib import Path

from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select
from selenium_axe_python import Axe

from tests.integration.browser import FakeStatus, PageTestCase
from tests.integration.programs import HOST, PATIENCE, shared
from tests.integration.showcase import Showcase
from tests.support.watched import SCRIPT

THIRTY = ("--sessions", "30")
MANY = ("--sessions", "5000", "--workers", "2")
PICTURE = os.environ.get("PTUNNEL_SCREENSHOT")
"""Where to write the picture for the README; nowhere unless this is set."""

_SORTED = '#session-table [data-sort="{}"]'


class LiveTests(PageTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.opened(shared(FakeStatus, *THIRTY))

    def test_theNumbersMove(self) -> None:
        for selector in (
            '#tiles [data-field="received"]',
            '#tunnels tbody tr [data-field="received"]',
            '#session-table tbody [data-field="age"]',
        ):
            self.changes(self.text, selector)
        self.assertRegex(self.text('#tiles [data-field="receivedRate"]'), r"^[1-9][\d.]+ [KM]iB/s$")

    def test_theChartsAreDrawn(self) -> None:
        for chart in "#flow", "#tunnels tbody tr:last-child svg":
            self.changes(self.line, chart)
            said = self.one(chart).get_attribute("aria-label")
            self.assertRegex(f"{said}", r"received [\d.]+ \w+/s, sent [\d.]+ \w+/s")

    def test_everyFigureOfATunnelIsThere(self) -> None:
        tunnel = self.server.asked()["tunnels"][1]
        row = self.text("#tunnels tbody tr:nth-child(2)")
        for word in (tunnel["name"], tunnel["listen"], tunnel["target"], *tunnel["via"]):
            self.assertIn(word, row)
        for cause in (*tunnel["failures"], *(k for k, n in tunnel["ends"].items() if n)):
            self.assertIn(cause, row)

    def test_aProxyInTroubleSaysWhy(self) -> None:
        proxy = self.server.asked()["proxies"][1]
        row = self.text("#proxies tbody tr:nth-child(2)")
        self.assertIn("in trouble", row)
        for key in "trouble", "rejection", "last_error":
            self.assertIn(proxy[key], row)

    def test_rowsFocusAndSelectionSurviveAnUpdate(self) -> None:
        self.unlock()
        self.js(
            """
            const row = document.querySelectorAll("#session-table tbody tr")[4];
            row.mark = true;
            row.querySelector("button").focus();
            getSelection().selectAllChildren(row);
            """
        )
        chosen = self.js("return getSelection().toString()")
        age = '#session-table tbody tr:nth-child({}) [data-field="age"]'
        for _ in range(2):
            self.changes(self.text, age.format(6))
        self.assertTrue(self.js("return document.activeElement.closest('tr').mark"))
        self.assertEqual(self.js("return getSelection().toString()"), chosen)
        self.js("getSelection().removeAllRanges()")
        self.changes(self.text, age.format(5))

    def test_aFocusedRowKeepsTheFocusWhenTheOrderChanges(self) -> None:
        self.unlock()
        last = self.shown()[-1]
        self.js('document.querySelector("#session-table tbody tr:last-child button").focus()')
        self.js(f"""document.querySelector('{_SORTED.format("number")} button').click()""")
        self.until(lambda: self.shown()[0] == last, "the order changes")
        label = self.js("return document.activeElement.getAttribute('aria-label')")
        self.assertIn(f"End session {last} ", label)
        self.assertEqual(self.shown(), self.server.numbers("sort=number&order=desc"))

    def test_aPauseHoldsTheNumbersAndSaysSo(self) -> None:
        self.one("#pause").click()
        self.assertIn("Paused at", self.text("#pause"))
        self.assertEqual(self.one("#pause").get_attribute("aria-pressed"), "true")
        before = self.text('#tiles [data-field="received"]')
        self.hears(0)  # so far
        documents = (self.server.asked(path) for path in ("", "sessions"))
        self.hears(3 * sum(len(json.dumps(each, separators=(",", ":"))) for each in documents))
        self.assertEqual(self.text('#tiles [data-field="received"]'), before)
        self.one("#pause").click()
        self.assertNotEqual(self.text('#tiles [data-field="received"]'), before)


class SessionTests(PageTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.opened(shared(FakeStatus, *THIRTY))

    def sort(self, key: str) -> None:
        self.one(f"{_SORTED.format(key)} button").click()

    def test_eachColumnSortsBothWays(self) -> None:
        for key in "client", "tunnel", "way", "phase", "age", "received", "sent", "rate", "number":
            for _ in range(2):
                self.sort(key)
                order = self.one(_SORTED.format(key)).get_attribute("aria-sort")
                query = f"sort={key}&order={'desc' if order == 'descending' else 'asc'}"
                self.until(lambda query=query: self.shown() == self.server.numbers(query), query)
            marked = self.js("return document.querySelectorAll('[aria-sort]').length")
            self.assertEqual(marked, 1)

    def test_whatIsTypedFilters(self) -> None:
        self.one("#filter").send_keys("backup")
        expected = self.server.numbers("q=backup")
        self.until(lambda: self.shown() == expected, "the table is filtered")
        self.assertEqual(self.text("#session-count"), str(len(expected)))
        self.one("#filter").send_keys("-there-is-none")
        self.until(lambda: self.seen("#no-sessions"), "nothing is found")
        self.assertIn("No session fits", self.text("#no-sessions"))
        self.one("#filter").clear()
        self.one("#filter").send_keys(" ")
        self.until(lambda: len(self.shown()) == len(self.server.numbers()), "all are back")

    def test_oneTunnelCanBeChosen(self) -> None:
        Select(self.one("#tunnel")).select_by_value("db/main")
        expected = self.server.numbers("tunnel=db/main")
        self.until(lambda: self.shown() == expected, "those of one tunnel are shown")

    def test_aPageHasAHundredRowsHoweverManyThereAre(self) -> None:
        self.opened(shared(FakeStatus, *MANY))
        self.assertEqual(self.text("#session-count"), "5,000")
        self.assertEqual(self.shown(), [*range(1, 101)])
        self.assertFalse(self.one("#previous").is_enabled())
        self.one("#following").click()
        self.until(lambda: self.shown() == [*range(101, 201)], "the next page is shown")
        self.assertEqual(self.text("#range"), "101–200 of 5,000")
        self.one("#previous").click()
        self.until(lambda: self.shown() == [*range(1, 101)], "the page before is shown")
        self.assertIn("2 of 2 ready", self.text("#facts"))


class HostileNameTests(PageTestCase):
    def test_aNameThatIsAScriptIsText(self) -> None:
        self.opened(shared(FakeStatus, *THIRTY))
        self.assertIn(SCRIPT, self.texts('#tunnels tbody [data-field="name"]'))
        self.assertIn(SCRIPT, self.texts('#session-table tbody [data-field="client"]'))
        self.assertIn(SCRIPT, self.texts('#session-table tbody [data-field="tunnel"]'))
        self.assertIn(f"{SCRIPT}:5", self.texts('#session-table tbody [data-field="target"]'))
        self.assertIn(SCRIPT, " ".join(self.texts('#proxies tbody [data-field="error"]')))
        self.assertIn(SCRIPT, " ".join(self.texts("#events .words")))
        self.assertIn(SCRIPT, self.texts("#tunnel option"))
        self.assertEqual(self.js("return document.scripts.length"), 1)
        self.unlock()
        self.js("document.querySelector('#session-table tbody tr:nth-child(3) button').click()")
        self.assertIn(SCRIPT, self.text("#dialog-text"))
        self.assertEqual(self.js("return document.scripts.length"), 1)
        # Nor does anything break the policy. The page has asked without and with the token.
        others = [said for said in self.complaints() if "/api/v1/sessions/none - " not in said]
        self.assertEqual(others, [])


class LostTests(PageTestCase):
    """A server of its own for each test, which goes and comes back."""

    def setUp(self) -> None:
        super().setUp()
        server = FakeStatus(*THIRTY)
        self.addCleanup(server.stop)
        self.opened(server)
        self.js(
            """
            window.losses = [];
            new MutationObserver(() => losses.push(document.getElementById("lost").textContent))
                .observe(document.getElementById("lost"), {
                    childList: true, characterData: true, subtree: true,
                });
            """
        )

    def isLost(self) -> None:
        self.until(lambda: self.seen("#banner"), "the page says that the connection is lost")
        self.assertRegex(self.text("#lost"), r"Connection lost at \d\d:\d\d:\d\d: .*from then")
        # The next try may have failed in another way.
        self.assertEqual(self.text("#live"), self.js("return losses[0]"))
        color = "return getComputedStyle(document.querySelector('#tiles dd')).color"
        self.assertEqual(self.js(color), self.js(color.replace("#tiles dd", "#tiles dt")))

    def comesBack(self) -> None:
        self.until(lambda: not self.seen("#banner"), "the page is connected again")
        self.assertEqual(self.text("#live"), "Connected again.")
        self.changes(self.text, '#tiles [data-field="received"]')

    def test_aServerThatEndsAndComesBack(self) -> None:
        self.server.kill()
        self.isLost()
        self.server.start()
        self.comesBack()

    def test_aServerThatIsSilent(self) -> None:
        os.kill(self.server.process.pid, signal.SIGSTOP)
        self.isLost()
        self.assertIn("the server is silent", self.text("#lost"))
        os.kill(self.server.process.pid, signal.SIGCONT)
        self.tryNow()
        self.comesBack()

    def test_aServerThatHasNoRoomSaysSo(self) -> None:
        self.server.kill()
        self.isLost()
        # Its own next try is not to be there before the others.
        self.js("window.kept = fetch; window.fetch = () => Promise.reject(new TypeError())")
        self.server.start()
        streams = [self.stream() for _ in range(100)]
        self.one("#again").click()
        self.js("window.fetch = kept")
        self.tryNow()
        self.until(lambda: "event streams are open" in self.text("#lost"), "it says why")
        for stream in streams:
            stream.close()
        self.tryNow()
        self.comesBack()

    def tryNow(self) -> None:
        """Press the button, which may have gone: the page tries by itself as well."""
        self.js("document.getElementById('again').click()")

    def test_anotherVersionBringsItsOwnPage(self) -> None:
        self.server.kill()
        self.isLost()
        self.js("window.old = true")
        start = "import ptunnel; ptunnel.__version__ = '99'; "
        self.server.run(start + "from tests.support import statusserver; statusserver.main()")
        self.until(lambda: self.text("#facts dd") == "99", "it shows the other version")
        self.assertFalse(self.js("return 'old' in window"))

    def stream(self) -> socket.socket:
        client = socket.create_connection((HOST, self.server.port), PATIENCE)
        self.addCleanup(client.close)
        client.sendall(b"GET /api/v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        client.recv(64)
        return client


class ReaderTests(PageTestCase):
    """Who reads it on a phone, in the dark, by keyboard or with a screen reader."""

    def setUp(self) -> None:
        super().setUp()
        self.opened(shared(FakeStatus, *MANY))

    def violations(self) -> list[str]:
        # A colour on its way to another one is neither.
        self.until(
            lambda: not self.js("return document.getAnimations().length"), "all stands still"
        )
        axe = Axe(self.browser)
        axe.inject()
        found = axe.run()["violations"]
        return [
            f"{each['id']}: {each['help']}: {[node['target'] for node in each['nodes']][:5]}"
            for each in found
            if each["impact"] in ("serious", "critical")
        ]

    def test_axeFindsNothingSerious(self) -> None:
        self.unlock()
        for scheme in "light", "dark":
            self.prefer(prefers_color_scheme=scheme)
            for width in 1280, 360:
                self.resize(width)
                self.assertEqual(self.violations(), [], f"{scheme}, {width}")
            self.js("document.querySelector('#session-table tbody button').click()")
            self.assertEqual(self.violations(), [], f"{scheme}, with the dialog")
            self.one("#dialog-cancel").click()

    def test_axeFindsNothingSeriousWhileTheConnectionIsLost(self) -> None:
        server = FakeStatus(*THIRTY)
        self.addCleanup(server.stop)
        self.opened(server)
        server.kill()
        self.until(lambda: self.seen("#banner"), "the connection is lost")
        for scheme in "light", "dark":
            self.prefer(prefers_color_scheme=scheme)
            self.assertEqual(self.violations(), [], scheme)

    def test_lightAndDarkDiffer(self) -> None:
        ground = "return getComputedStyle(document.body).backgroundColor"
        self.prefer(prefers_color_scheme="light")
        light = self.js(ground)
        self.prefer(prefers_color_scheme="dark")
        self.assertNotEqual(self.js(ground), light)

    def test_nothingScrollsSidewaysButTables(self) -> None:
        self.unlock()
        for width in 360, 768, 1280:
            self.resize(width, 740)
            self.assertEqual(self.js("return document.scrollingElement.scrollWidth"), width)
            beyond = self.js(
                """
                return [...document.querySelectorAll("body *")]
                  .filter((e) => !e.closest(".scroller, .sr, svg") && e.checkVisibility())
                  .filter((e) => e.getBoundingClientRect().right > arguments[0] + 0.5)
                  .map((e) => e.outerHTML.slice(0, 80));
                """,
                width,
            )
            self.assertEqual(beyond, [], f"{width}")

    def test_onAPhoneNoTableScrollsEither(self) -> None:
        self.unlock()
        self.resize(360, 740)
        wide = """return [...document.querySelectorAll(".scroller")]
            .filter((e) => e.scrollWidth > e.clientWidth).length"""
        self.assertEqual(self.js(wide), 0)

    def press(self, key: str) -> None:
        ActionChains(self.browser).send_keys(key).perform()

    def tabTo(self, selector: str) -> None:
        """Press Tab until that has the focus, which is seen at each step."""
        for _ in range(60):
            self.press(Keys.TAB)
            style = self.js("return getComputedStyle(document.activeElement).outlineStyle")
            self.assertNotEqual(style, "none")
            if self.js("return document.activeElement.matches(arguments[0])", selector):
                return
        self.fail(f"{selector} is not reached")

    def test_byKeyboardTheOrderChanges(self) -> None:
        header = _SORTED.format("number")
        self.tabTo(f"{header} button")
        self.press(Keys.ENTER)
        self.until(lambda: self.shown()[0] == 5000, "the order changes")
        self.assertEqual(self.one(header).get_attribute("aria-sort"), "descending")
        self.assertTrue(
            self.js("return document.activeElement.matches(arguments[0])", f"{header} *")
        )

    def test_byKeyboardADialogIsLeft(self) -> None:
        self.tabTo("#steer")
        self.press(Keys.ENTER)
        self.until(lambda: self.seen("#token"), "the token is asked for")
        self.assertEqual(self.js("return document.activeElement.id"), "token")
        self.press(Keys.ESCAPE)
        self.until(lambda: not self.seen("#dialog"), "the dialog is closed")
        self.assertEqual(self.js("return document.activeElement.id"), "steer")

    def test_onlyChangesOfStateAreReadOut(self) -> None:
        live = "return [...document.querySelectorAll('[aria-live], [role=status], [role=alert]')]"
        self.assertEqual(
            self.js(f"{live}.map((e) => e.id)"),
            ["live", "dialog-error"],
        )
        self.changes(self.text, '#tiles [data-field="received"]')
        self.assertEqual(self.texts("#live"), [""])

    def test_whoWantsNoMotionGetsNone(self) -> None:
        moving = """return [...document.querySelectorAll("*")]
            .filter((e) => getComputedStyle(e).transitionDuration !== "0s").length"""
        self.prefer(prefers_reduced_motion="reduce")
        self.assertEqual(self.js(moving), 0)


class UnitTests(PageTestCase):
    """The modules for numbers, in the browser that runs them."""

    def setUp(self) -> None:
        super().setUp()
        self.opened(shared(FakeStatus, *THIRTY))

    def answers(self, module: str, calls: str) -> list[object]:
        script = f"const m = await import('/{module}'); return {calls};"
        return list(self.later(script))

    def test_bytesHaveThreeDigits(self) -> None:
        calls = "[0, 999, 1000, 1234, 10239, 102400, 1048575, 5e9, 2 ** 60].map(m.bytes)"
        said = self.answers("units.js", calls)
        kilos = ["0.98 KiB", "1.21 KiB", "10.0 KiB", "100 KiB"]
        self.assertEqual(said, ["0 B", "999 B", *kilos, "1.00 MiB", "4.66 GiB", "1024 PiB"])

    def test_durationsHaveTheirUnit(self) -> None:
        calls = "[null, 0, 0.0004, 0.0123, 0.9999, 1.234, 12.34].map(m.took)"
        said = self.answers("units.js", calls)
        self.assertEqual(said, ["–", "0 µs", "400 µs", "12 ms", "1.00 s", "1.23 s", "12.3 s"])

    def test_agesHaveTwoUnits(self) -> None:
        calls = "[-1, 4.9, 60, 192, 3600, 183845].map(m.age)"
        said = self.answers("units.js", calls)
        self.assertEqual(said, ["0 s", "4 s", "1 min 0 s", "3 min 12 s", "1 h 0 min", "2 d 3 h"])

    def test_theScaleIsARoundNumberAboveThePeak(self) -> None:
        calls = "[0, 1, 1025, 3000, 1e6, 1048576, 5e8].map((n) => m.scale(n))"
        said = self.answers("chart.js", calls)
        units = 1024, 1024, 2048, 5 * 1024, 1048576, 1048576, 500 * 1048576
        self.assertEqual(said, [*units])


class ScreenshotTests(PageTestCase):
    """The picture for the README, which `make screenshot` writes."""

    def test_thePictureShowsChartsAndIsSmall(self) -> None:
        site = Showcase()
        threading.Thread(target=site.serve_forever, args=(0.02,), daemon=True).start()
        self.addCleanup(site.server_close)
        self.addCleanup(site.shutdown)
        self.prefer(prefers_color_scheme="light")
        self.resize(1180, 666)
        self.browser.get(site.url)
        self.until(lambda: len(self.shown()) == 100, "all is there")
        for chart in "#flow", "#tunnels tbody tr:last-child svg":
            self.assertGreater(f"{self.line(chart)}".count("L"), 140)
        self.js("document.getElementById('host').textContent = arguments[0]", f"{HOST}:8620")
        picture = self.browser.get_screenshot_as_png()
        self.assertLess(len(picture), 150_000)
        if PICTURE:
            Path(PICTURE).write_bytes(picture)
