"""A page of somebody else in the same browser: it can neither read the status nor steer."""

from __future__ import annotations

import http.server
import threading

from tests.integration.browser import STRANGER, BrowserTestCase, FakeStatus, FakeUnixStatus
from tests.integration.programs import HOST, shared


class _StrangersPage(http.server.BaseHTTPRequestHandler):
    """An empty page, without any policy."""

    def do_GET(self) -> None:
        body = b"<!doctype html><title>a stranger</title>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class StrangerTests(BrowserTestCase):
    """Whose page is of another origin: another port, another name."""

    kind = FakeStatus

    def setUp(self) -> None:
        super().setUp()
        self.server = shared(self.kind)
        site = http.server.ThreadingHTTPServer((HOST, 0), _StrangersPage)
        threading.Thread(target=site.serve_forever, args=(0.02,), daemon=True).start()
        self.addCleanup(site.server_close)
        self.addCleanup(site.shutdown)
        self.before = self.server.asked()
        self.pages = [f"http://{host}:{site.server_port}/" for host in (HOST, STRANGER)]

    def tearDown(self) -> None:
        after = self.server.asked()
        for key in "tunnels", "proxies":
            self.assertEqual([each["drained"] for each in after[key] if each["drained"]], [])
        self.assertEqual(after["sessions"], self.before["sessions"])

    def test_itReadsNothing(self) -> None:
        for page in self.pages:
            self.browser.get(page)
            for path in "api/v1/", "api/v1/sessions", "metrics", "":
                for credentials in "omit", "include":
                    got = self.later(
                        "return await (await fetch(args[0], {credentials: args[1]})).text()",
                        self.server.url(path),
                        credentials,
                    )
                    self.assertEqual(got, "TypeError", f"{page}: {path}, {credentials}")
                opaque = self.later(
                    "return await (await fetch(args[0], {mode: 'no-cors'})).text()",
                    self.server.url(path),
                )
                self.assertIn(opaque, ("TypeError", ""))

    def test_itHearsNoEvents(self) -> None:
        for page in self.pages:
            self.browser.get(page)
            heard = self.later(
                """
                const source = new EventSource(args[0], {withCredentials: args[1]});
                return await new Promise((done) => {
                  source.onerror = () => done(source.readyState);
                  source.addEventListener("status", (event) => done(event.data));
                })
                """,
                self.server.url("api/v1/stream"),
                True,
            )
            self.assertEqual(heard, 2, "it is closed for good")

    def test_itLoadsNothingAsAScriptAnImageOrAFrame(self) -> None:
        for page in self.pages:
            self.browser.get(page)
            for tag, attribute in ("script", "src"), ("img", "src"), ("link", "href"):
                came = self.later(
                    """
                    const [tag, attribute, url] = args;
                    const element = Object.assign(document.createElement(tag), {rel: "stylesheet"});
                    element[attribute] = url;
                    return await new Promise((done) => {
                      element.onload = () => done("loaded");
                      element.onerror = () => done("refused");
                      document.head.append(element);
                    })
                    """,
                    tag,
                    attribute,
                    self.server.url({"script": "page.js", "img": "icon.svg"}.get(tag, "page.css")),
                )
                self.assertEqual(came, "refused", f"{page}: {tag}")
            inside = self.later(
                """
                const frame = document.createElement("iframe");
                frame.src = args[0];
                const loaded = new Promise((done) => (frame.onload = done));
                document.body.append(frame);
                await loaded;
                return [frame.contentDocument === null, frame.contentWindow.length];
                """,
                self.server.url(),
            )
            self.assertEqual(inside, [True, 0])
        frames = [each for each in self.complaints() if "frame-ancestors" in each]
        self.assertTrue(frames, "the page is in no frame of somebody else")

    def test_itSteersNothingByFetchNotEvenWithTheToken(self) -> None:
        for page in self.pages:
            self.browser.get(page)
            for method, path in (
                ("DELETE", "api/v1/sessions/5"),
                ("POST", "api/v1/reload"),
                ("POST", "api/v1/tunnels/mail/drain"),
                ("POST", "api/v1/proxies/corp/drain"),
            ):
                for options in (
                    "{}",
                    "{credentials: 'include'}",
                    "{headers: {'X-Ptunnel': '1'}}",
                    f"{{headers: {{Authorization: 'Bearer {FakeStatus.TOKEN}'}}}}",
                    "{mode: 'no-cors'}",
                ):
                    got = self.later(
                        f"const answer = await fetch(args[1], {{method: args[0], ...{options}}});"
                        "return answer.type",
                        method,
                        self.server.url(path),
                    )
                    self.assertIn(
                        got, ("TypeError", "opaque"), f"{page}: {method} {path} {options}"
                    )
                    self.assertFalse(got == "opaque" and "no-cors" not in options)

    def test_itSteersNothingByAForm(self) -> None:
        for page in self.pages:
            for path in "api/v1/tunnels/mail/drain", "api/v1/reload":
                self.browser.get(page)
                self.js(
                    """
                    const form = document.createElement("form");
                    Object.assign(form, {method: "post", action: arguments[0]});
                    document.body.append(form);
                    form.submit();
                    """,
                    self.server.url(path),
                )
                self.until(lambda: self.browser.current_url.startswith(self.server.url()), "sent")
                self.until(lambda: "another site" in self.text("body"), "it is refused")

    def test_itOpensThePageButSeesNothingOfIt(self) -> None:
        for page in self.pages:
            self.browser.get(page)
            self.js("window.opened = window.open(arguments[0])", self.server.url())
            self.until(lambda: self.js("return opened.closed"), "they do not know each other")
            other = self.browser.window_handles[-1]
            mine = self.browser.current_window_handle
            self.browser.switch_to.window(other)
            self.until(lambda: self.text("#state") == "running", "the page itself works")
            self.assertTrue(self.js("return window.opener === null"))
            self.browser.close()
            self.browser.switch_to.window(mine)


class UnixStrangerTests(StrangerTests):
    """By a port that leads to a Unix socket, where no token is needed."""

    kind = FakeUnixStatus


class RebindingTests(BrowserTestCase):
    """A page whose own name leads to this machine is of the same origin as the status address."""

    kind = FakeStatus

    def test_aNameThatIsNotOursIsServedNothing(self) -> None:
        server = shared(self.kind)
        self.browser.get(f"http://{STRANGER}:{server.port}/")
        self.until(lambda: "status-hosts" in self.text("body"), "it says what is wrong")
        for method, path in (
            ("GET", "/api/v1/"),
            ("GET", "/api/v1/stream"),
            ("GET", "/metrics"),
            ("DELETE", "/api/v1/sessions/5"),
            ("POST", "/api/v1/reload"),
        ):
            status = self.later(
                "return (await fetch(args[1], {method: args[0], headers:"
                " {Authorization: `Bearer ${args[2]}`, 'X-Ptunnel': '1'}})).status",
                method,
                path,
                FakeStatus.TOKEN,
            )
            self.assertEqual(status, 421, f"{method} {path}")
        self.assertIn(5, server.numbers())


class UnixRebindingTests(RebindingTests):
    kind = FakeUnixStatus
