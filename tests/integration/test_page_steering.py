"""The status page in a real browser: ending sessions, draining, reloading, and the token."""

from __future__ import annotations

from tests.integration.browser import FakeLookOnly, FakeStatus, FakeUnixStatus, PageTestCase
from tests.integration.programs import PATIENCE, eventually

ROW = "#session-table tbody tr:nth-child({})"


class SteeringTests(PageTestCase):
    """A server of its own for each test."""

    def setUp(self) -> None:
        super().setUp()
        server = FakeStatus()
        self.addCleanup(server.stop)
        self.opened(server)

    def click(self, selector: str) -> None:
        """Click on something, wherever it is on the page."""
        element = self.one(selector)
        self.js("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def says(self, text: str) -> None:
        """Wait until the page says what came of something."""
        self.until(lambda: self.seen("#said") and text in self.text("#said span"), text)

    # With the token

    def test_aSessionEndsAfterAQuestion(self) -> None:
        self.unlock()
        self.click(f"{ROW.format(5)} button")
        self.assertEqual(self.text("#dialog-title"), "End session 5?")
        self.one("#dialog-cancel").click()
        self.until(lambda: not self.seen("#dialog"), "the dialog is closed")
        self.assertIn(5, self.server.numbers())
        self.click(f"{ROW.format(5)} button")
        self.one("#dialog-yes").click()
        self.says(f"Session 5 of {self.clientOf(5)} has been ended.")
        self.assertNotIn(5, self.server.numbers())
        self.until(lambda: 5 not in self.shown(), "the row is gone")
        self.assertEqual(self.text("#live"), self.text("#said span"))

    def clientOf(self, number: int) -> str:
        return f"127.0.0.{number + 1}:{40000 + number}"

    def test_whoEndsSessionsByKeyboardGoesOnFromTheNextRow(self) -> None:
        self.unlock()
        self.click(f"{ROW.format(5)} button")
        self.one("#dialog-yes").click()
        self.until(lambda: 5 not in self.shown(), "the row is gone")
        label = self.js("return document.activeElement.getAttribute('aria-label')")
        self.assertTrue(label.startswith("End session 6 "), label)

    def test_aSessionThatHasLeftMeanwhile(self) -> None:
        self.unlock()
        self.click(f"{ROW.format(5)} button")
        self.later(
            "return (await fetch('api/v1/sessions/5', {method: 'DELETE', headers:"
            " {Authorization: `Bearer ${args[0]}`}})).status",
            FakeStatus.TOKEN,
        )
        self.one("#dialog-yes").click()
        self.says("there is no session 5")

    def test_tunnelsAndProxiesAreDrainedAndServeAgain(self) -> None:
        self.unlock()
        for kind, index, name in ("tunnels", 1, "db/main"), ("proxies", 0, "corp"):
            button = f"#{kind} tbody tr:nth-child({index + 1}) button"

            def drained(kind: str = kind, index: int = index) -> bool:
                return bool(self.server.asked()[kind][index]["drained"])

            self.click(button)
            self.assertIn(name, self.text("#dialog-title"))
            self.assertFalse(drained())
            self.one("#dialog-yes").click()
            eventually(drained, f"{name} is drained")
            self.until(lambda button=button: self.text(button) == "Undrain", "the page shows it")
            tag = f"#{kind} tbody tr:nth-child({index + 1}) .tag"
            self.assertTrue(self.seen(tag))
            self.click(button)
            eventually(lambda drained=drained: not drained(), f"{name} serves again")
            self.until(lambda tag=tag: not self.seen(tag), "the page shows it")

    def test_aReloadSaysWhatCameOfIt(self) -> None:
        self.unlock()
        self.click("#reload")
        self.says("reloaded: ")

    # Without

    def test_nothingCanBeSteeredWithoutTheToken(self) -> None:
        self.assertFalse(self.seen("#session-table tbody button"))
        self.assertFalse(self.seen("#tunnels tbody button"))
        self.assertFalse(self.seen("#reload"))
        self.assertFalse(self.seen("#token"))
        self.click("#steer")
        self.until(lambda: self.seen("#token"), "the token is asked for")
        for wrong, why in (
            ("", "Enter the token."),
            ("wrong", "this is not the token"),
            ("wröng", "A token has letters, digits and signs of ASCII only."),
        ):
            self.one("#token").clear()
            self.one("#token").send_keys(wrong)
            self.one("#dialog-yes").click()
            self.until(lambda why=why: self.text("#dialog-error") == why, why)
            self.assertTrue(self.seen("#dialog"))
        self.assertFalse(self.seen("#session-table tbody button"))

    def test_theTokenIsInNoURLAndNoCookieAndForThisTabOnly(self) -> None:
        self.unlock()
        self.click(f"{ROW.format(5)} button")
        self.one("#dialog-yes").click()
        self.says("has been ended")
        self.browser.refresh()
        self.until(lambda: self.seen("#reload"), "the page may steer after it is loaded again")
        token = FakeStatus.TOKEN
        urls = self.urls()
        self.assertTrue([url for url in urls if url.endswith("/api/v1/sessions/5")])
        self.assertEqual([url for url in urls if token in url], [])
        self.assertEqual(self.browser.get_cookies(), [])
        self.assertNotIn(token, self.browser.current_url)
        self.assertEqual(self.js("return Object.keys(localStorage)"), [])
        self.assertEqual(self.js("return document.getElementById('token').value"), "")
        self.assertNotIn(token, self.server.output())
        self.browser.switch_to.new_window("tab")
        self.addCleanup(self.browser.switch_to.window, self.browser.window_handles[-2])
        self.addCleanup(self.browser.close)
        self.browser.get(self.server.url())
        self.until(lambda: self.seen("#session-table tbody tr"), "another tab shows the page")
        self.assertFalse(self.seen("#reload"))

    def test_whereNobodyMaySteerTheTokenIsNotAskedFor(self) -> None:
        server = FakeLookOnly()
        self.addCleanup(server.stop)
        self.opened(server)
        self.click("#steer")
        self.says("set status-token-file")
        self.assertFalse(self.seen("#dialog"))

    def test_aForgottenTokenSteersNoMore(self) -> None:
        self.unlock()
        self.click("#forget")
        self.until(lambda: not self.seen("#session-table tbody button"), "the buttons are gone")
        self.assertEqual(self.js("return Object.keys(sessionStorage)"), [])

    def test_aTokenThatIsAnotherNowIsAskedForAgain(self) -> None:
        self.unlock()
        self.one("#pause").click()  # the buttons stay
        self.server.token.write_text("another-token")
        self.click(f"{ROW.format(5)} button")
        self.one("#dialog-yes").click()
        self.until(lambda: self.seen("#token"), "the token is asked for")
        self.assertEqual(self.text("#dialog-error"), "this is not the token")
        self.assertIn(5, self.server.numbers())

    def test_aServerThatIsGoneIsSaid(self) -> None:
        self.unlock()
        self.server.kill()
        self.click(f"{ROW.format(5)} button")
        self.one("#dialog-yes").click()
        self.says("not known whether")
        self.server.process.wait(PATIENCE)


class UnixTests(PageTestCase):
    def test_whoReachesAUnixSocketSteersWithoutAToken(self) -> None:
        server = FakeUnixStatus()
        self.addCleanup(server.stop)
        self.opened(server)
        self.until(lambda: self.seen(f"{ROW.format(5)} button"), "the page may steer")
        self.assertFalse(self.seen("#steer"))
        self.assertFalse(self.seen("#forget"))
        self.one(f"{ROW.format(5)} button").click()
        self.one("#dialog-yes").click()
        self.until(lambda: 5 not in self.shown(), "the session is ended")
        self.assertNotIn(5, server.numbers())
