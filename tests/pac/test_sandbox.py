"""What a PAC file may do and call, in this process: `ptunnel.pac.sandbox` and `helpers.js`.

Only what the engine itself ends is here. For the rest, see test_engine.
"""

from __future__ import annotations

import json
import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock, skipIf

from twisted.trial.unittest import SynchronousTestCase

from ptunnel.pac import sandbox
from ptunnel.pac.answers import parseAnswer
from tests.pac.wild import BALANCED, COMPANY, HOSTS, manyHosts

HELPERS = Path(sandbox.__file__).with_name("helpers.js").read_text("utf-8")
NO_ENGINE = None if find_spec("quickjs") else "quickjs-ng is not installed"
# A Wednesday, 14:30:15 GMT.
NOON = 1432132215


class SandboxCase(SynchronousTestCase):
    skip = NO_ENGINE

    def loaded(self, source: str) -> sandbox.Sandbox:
        quickjs = import_module("quickjs")

        box = sandbox.Sandbox(quickjs)
        self.assertEqual(box.load(HELPERS, source), {"loaded": True})
        return box

    def ask(
        self, body: str, host: str = "www.example.com", names: dict[str, str] | None = None
    ) -> Any:
        """What a file with this function body says."""
        box = self.loaded(f"function FindProxyForURL(url, host) {{ {body} }}")
        learned = "" if names is None else json.dumps(list(names.items()))
        return box.find(f"https://{host}/", host, learned)

    def value(self, expression: str, names: dict[str, str] | None = None) -> Any:
        """What an expression is within the function, made text."""
        said = self.ask(f"return String({expression})", names=names)
        return said.get("answer", said)


class HelperTests(SandboxCase):
    def check(self, expression: str, expected: bool, names: dict[str, str] | None = None) -> None:
        self.assertEqual(self.value(expression, names), str(expected).lower(), expression)

    def test_names(self) -> None:
        self.check('isPlainHostName("www")', True)
        self.check('isPlainHostName("www.example")', False)
        self.check('isPlainHostName("::1")', False)
        self.check('dnsDomainIs("www.example.com", ".example.com")', True)
        self.check('dnsDomainIs("www.example.org", ".example.com")', False)
        self.check('localHostOrDomainIs("www.a.b", "www.a.b")', True)
        self.check('localHostOrDomainIs("www", "www.a.b")', True)
        self.check('localHostOrDomainIs("home.a.b", "www.a.b")', False)
        self.assertEqual(self.value('dnsDomainLevels("a.b.c")'), "2")
        self.assertEqual(self.value('dnsDomainLevels("a")'), "0")

    def test_patterns(self) -> None:
        for text, pattern, expected in (
            ("www.example.com", "www.example.com", True),
            ("www.example.com", "*.example.com", True),
            ("wwwxexample.com", "*.example.com", False),
            ("example.com", "*.example.com", False),
            ("10.1.2.3", "10.*", True),
            ("110.1.2.3", "10.*", False),
            ("http://a/ads/1", "*/ads/*", True),
            ("abc", "a?c", True),
            ("abbc", "a?c", False),
            ("www.a.com", "(*.a.com|*.b.com)", True),
            ("www.c.com", "(*.a.com|*.b.com)", False),
            ("a.b", "*", True),
            ("axb", "a.b", False),
            ("", "*", True),
            ("https://x.example/p", "*://x.example/*", True),
            ("a", "**", True),
        ):
            self.check(f"shExpMatch({json.dumps(text)}, {json.dumps(pattern)})", expected)

    def test_networks(self) -> None:
        self.check('isInNet("10.1.2.3", "10.0.0.0", "255.0.0.0")', True)
        self.check('isInNet("11.1.2.3", "10.0.0.0", "255.0.0.0")', False)
        self.check('isInNet("192.0.2.200", "192.0.2.128", "255.255.255.128")', True)
        self.check('isInNet("1.2.3.4", "1.2.3.4", "255.255.255.255")', True)
        self.check('isInNet("1.2.3.4", "1.2.3.x", "255.255.255.255")', False)
        self.check('isInNet("a.b", "10.0.0.0", "255.0.0.0")', True, {"a.b": "10.9.9.9"})
        self.check('isInNet("a.b", "10.0.0.0", "255.0.0.0")', False, {"a.b": ""})
        self.check('isInNetEx("2001:db8::5", "2001:db8::/32")', True)
        self.check('isInNetEx("2001:db9::5", "2001:db8::/32")', False)
        self.check('isInNetEx("2001:db8:8000::", "2001:db8::/33")', False)
        self.check('isInNetEx("10.1.2.3", "10.0.0.0/8")', True)
        self.check('isInNetEx("11.1.2.3", "10.0.0.0/8")', False)
        self.check('isInNetEx("nonsense", "10.0.0.0/8")', False)
        self.check('isInNetEx("10.1.2.3", "10.0.0.0/99")', False)

    def test_knownNames(self) -> None:
        names = {
            "both": "2001:db8::1;192.0.2.7",
            "six": "2001:db8::2",
            "none": "",
            "": "10.0.0.9;fe80::1",
        }
        for expression, expected in (
            ('dnsResolve("both")', "192.0.2.7"),
            ('dnsResolve("six")', "null"),
            ('dnsResolve("none")', "null"),
            ('dnsResolve("192.0.2.1")', "192.0.2.1"),
            ('dnsResolveEx("both")', "2001:db8::1;192.0.2.7"),
            ('isResolvable("both")', "true"),
            ('isResolvable("none")', "false"),
            ('isResolvableEx("six")', "true"),
            ('isResolvableEx("none")', "false"),
            ("myIpAddress()", "10.0.0.9"),
            ("myIpAddressEx()", "10.0.0.9;fe80::1"),
            ('sortIpAddressList("10.0.0.9; fe80::1")', "fe80::1;10.0.0.9"),
        ):
            self.assertEqual(self.value(expression, names), expected, expression)

    def test_whoHasNoAddressIsLoopback(self) -> None:
        self.assertEqual(self.value("myIpAddress()", {"": ""}), "127.0.0.1")

    def at(self, expression: str) -> Any:
        """The value of an expression on Wednesday, 20 May 2015, 14:30:15 GMT."""
        fixed = (
            f"const R = Date; Date = class extends R {{ constructor() {{ super({NOON}000) }} }};"
        )
        return self.ask(f"{fixed} return String({expression})").get("answer")

    def test_days(self) -> None:
        for expression, expected in (
            ('weekdayRange("WED", "GMT")', "true"),
            ('weekdayRange("MON", "FRI", "GMT")', "true"),
            ('weekdayRange("SAT", "SUN", "GMT")', "false"),
            ('weekdayRange("FRI", "WED", "GMT")', "true"),
            ('weekdayRange("NONE", "GMT")', "false"),
            ("weekdayRange()", "false"),
            ('dateRange(20, "GMT")', "true"),
            ('dateRange(21, "GMT")', "false"),
            ('dateRange("MAY", "GMT")', "true"),
            ('dateRange(2015, "GMT")', "true"),
            ('dateRange(1, 15, "GMT")', "false"),
            ('dateRange("APR", "JUN", "GMT")', "true"),
            ('dateRange("DEC", "FEB", "GMT")', "false"),
            ('dateRange("OCT", "MAY", "GMT")', "true"),
            ('dateRange(24, "DEC", 31, "DEC", "GMT")', "false"),
            ('dateRange(15, "APR", 20, "MAY", "GMT")', "true"),
            ('dateRange("JUN", 2014, "JUN", 2015, "GMT")', "true"),
            ('dateRange(1, "JUN", 2014, 19, "MAY", 2015, "GMT")', "false"),
            ('dateRange(1, "JUN", 2014, 20, "MAY", 2015, "GMT")', "true"),
            ('dateRange(20, "MAY", 2015, "GMT")', "true"),
            ('dateRange(20, "MAY", "GMT")', "true"),
            ('dateRange(21, "MAY", "GMT")', "false"),
            ('dateRange("nonsense", "GMT")', "false"),
            ("dateRange()", "false"),
        ):
            self.assertEqual(self.at(expression), expected, expression)

    def test_hours(self) -> None:
        for expression, expected in (
            ('timeRange(14, "GMT")', "true"),
            ('timeRange(15, "GMT")', "false"),
            ('timeRange(8, 18, "GMT")', "true"),
            ('timeRange(20, 6, "GMT")', "false"),
            ('timeRange(14, 0, 14, 29, "GMT")', "false"),
            ('timeRange(14, 0, 14, 30, "GMT")', "true"),
            ('timeRange(14, 30, 15, 14, 30, 15, "GMT")', "true"),
            ('timeRange(14, 30, 16, 20, 0, 0, "GMT")', "false"),
            ('timeRange(20, 0, 14, 31, "GMT")', "true"),
            ("timeRange()", "false"),
            ('timeRange("nonsense", "GMT")', "false"),
        ):
            self.assertEqual(self.at(expression), expected, expression)


class NameTests(SandboxCase):
    """A name that is not known yet."""

    def test_theAnswerIsTheName(self) -> None:
        for call in 'dnsResolve("a")', 'isResolvable("a")', 'isInNet("a", "1.1.1.1", "0.0.0.0")':
            self.assertEqual(self.value(call), {"names": ["a"]})
        self.assertEqual(self.value("myIpAddress()"), {"names": [""]})

    def test_alsoWhereTheFileCatchesWhatIsThrown(self) -> None:
        body = 'for (const n of ["a", "b"]) try { dnsResolve(n) } catch (e) {}; return "DIRECT"'
        self.assertEqual(self.ask(body), {"names": ["a", "b"]})

    def test_onceItIsKnownTheSameCallSucceeds(self) -> None:
        box = self.loaded("function FindProxyForURL(u, h) { return 'PROXY ' + dnsResolve(h) }")
        found = {"answer": "PROXY 192.0.2.1"}
        self.assertEqual(box.find("https://a/", "a", ""), {"names": ["a"]})
        self.assertEqual(box.find("https://a/", "a", '[["a", "192.0.2.1"]]'), found)
        self.assertEqual(box.find("https://a/", "a", ""), found)
        self.assertEqual(box.find("https://a/", "a", "[]"), {"names": ["a"]})  # forgotten

    def test_tooManyAreRefusedWhateverIsKnownAndCaught(self) -> None:
        names = {f"n{i}": "192.0.2.1" for i in range(10_000)}
        for known in None, names:
            body = "for (let i = 0; i < 10000; i++) try { dnsResolve('n' + i) } catch (e) {}"
            self.assertEqual(self.ask(body, names=known)["failed"], "names")
        body = "for (let i = 0; i < 10000; i++) dnsResolve('n' + i)"
        self.assertEqual(self.ask(body, names=names)["failed"], "names")


class FailureTests(SandboxCase):
    """Files that are broken or hostile."""

    def test_aThrowIsAFailureWithItsTextAndLine(self) -> None:
        said = self.ask("\n\n nothing.here")
        self.assertEqual(said["failed"], "threw")
        self.assertEqual(said["text"], "ReferenceError: nothing is not defined in line 3")
        nameless = "something without a text"
        for what, text in ("'x'", "x"), ("null", "null"), ("{toString() { throw 1 }}", nameless):
            self.assertEqual(self.ask(f"throw {what}"), {"failed": "threw", "text": text})
        self.assertLessEqual(len(self.ask("throw 'x'.repeat(100000)")["text"]), sandbox.MAX_ERROR)

    def test_whatIsNoTextIsAFailure(self) -> None:
        for value, kind in (
            ("null", "null"),
            ("undefined", "undefined"),
            ("1n", "bigint"),
            ("Symbol()", "symbol"),
            ("{toString() { while (true); }}", "object"),
            ("new Proxy({}, {get() { while (true); }})", "object"),
        ):
            self.assertEqual(self.ask(f"return {value}"), {"failed": "type", "text": kind})
        self.assertEqual(self.ask("return '\\ud800'")["failed"], "type")

    def test_aHugeTextIsAFailure(self) -> None:
        self.assertEqual(self.ask("return 'x'.repeat(1e7)")["failed"], "long")
        long = self.ask("return 'x'.repeat(8000) + host + 'y'.repeat(100)")
        self.assertEqual(long.keys(), {"answer"})

    def test_aLoopIsEnded(self) -> None:
        fast = {"TIME": 0.02, "LAST": 1000.0}
        with mock.patch.multiple(sandbox, **fast):  # type: ignore[call-overload]
            for body in (
                "while (true);",
                "try { while (true); } finally { while (true); }",
                "/(a+)+$/.test('a'.repeat(60) + 'b')",
                "shExpMatch('a'.repeat(60), '*a*a*a*a*a*a*a*a*a*a*b')",
                "shExpMatch = function () { while (true); }; shExpMatch()",
            ):
                self.assertEqual(self.ask(body)["failed"], "slow", body)

    def test_memoryIsLimited(self) -> None:
        with mock.patch.object(sandbox, "MEMORY", 8 << 20):
            for body in (
                "return 'x'.repeat(1 << 28)",
                "const a = []; while (true) a.push('x'.repeat(9999) + a.length)",
            ):
                self.assertEqual(self.ask(body)["failed"], "memory", body)

    def test_endlessRecursionIsEnded(self) -> None:
        self.assertEqual(self.ask("function f() { f() }; f()")["failed"], "deep")

    def test_nothingOfTheProcessIsWithinReach(self) -> None:
        names = "process require module std os scriptArgs load print fetch XMLHttpRequest"
        for name in names.split():
            self.assertEqual(self.value(f"typeof {name}"), "undefined", name)
        self.assertEqual(self.ask("import('os'); return 'DIRECT'"), {"answer": "DIRECT"})

    def test_aFileThatDoesNotLoadSaysWhy(self) -> None:
        quickjs = import_module("quickjs")

        for source, kind in (
            ("function FindP(", "threw"),
            ("<html>Not found</html>", "threw"),
            ("throw 5", "threw"),
            ("var FindProxyForURL = 5", "none"),
            ("", "none"),
        ):
            self.assertEqual(sandbox.Sandbox(quickjs).load(HELPERS, source)["failed"], kind, source)
        with (
            mock.patch.object(sandbox, "LOAD_TIME", 0.02),
            mock.patch.object(sandbox, "LAST", 1000.0),
        ):
            said = sandbox.Sandbox(quickjs).load(HELPERS, "while (true);")
            self.assertEqual(said, {"failed": "long-load"})

    def test_afterAFailureItGoesOn(self) -> None:
        box = self.loaded("function FindProxyForURL(u, h) { if (h == 'a') throw 1; return h }")
        self.assertEqual(box.find("", "a", "")["failed"], "threw")
        self.assertEqual(box.find("", "b", ""), {"answer": "b"})

    def test_itMayHaveHelpersOfItsOwn(self) -> None:
        box = self.loaded(
            "function isPlainHostName() { return 'mine' }"
            "const FindProxyForURL = (u, h) => isPlainHostName()"
        )
        self.assertEqual(box.find("", "a", ""), {"answer": "mine"})

    def test_whoBreaksTheLanguageBreaksItsOwnAnswer(self) -> None:
        box = self.loaded("Array.prototype.join = null; FindProxyForURL = () => 'DIRECT'")
        self.assertEqual(box.find("", "a", "")["failed"], "threw")


class WildTests(SandboxCase):
    """Files as they are found."""

    def test_2000Hosts(self) -> None:
        box = self.loaded(manyHosts())
        for number in 0, 1, 2, 3, HOSTS - 1:
            name = f"h{number}.dept{number % 40}"
            ends = (
                "corp.example",
                "example.net",
                "partner.example",
                "cloud.example",
                "example.org",
            )
            before = ("x.", "x.", "", "", "www.")[number % 5]
            host = f"{before}{name}.{ends[number % 5]}"
            said = box.find(f"https://{host}/", host, "")
            self.assertEqual(said, {"answer": f"PROXY p{number % 5}.corp.example:8080"}, host)
        said = box.find("https://elsewhere.example/", "elsewhere.example", "")
        self.assertEqual(len(parseAnswer(said["answer"]).choices), 3)

    def test_aCompanys(self) -> None:
        box = self.loaded(COMPANY)
        names = {
            "": "192.0.2.77",
            "in.example": "10.3.2.1",
            "out.example": "198.51.100.1",
            "www.partner.example": "",
        }
        names |= {"mail.corp.example": ""}
        known = json.dumps(list(names.items()))
        for host, expected in (
            ("mail.corp.example", "DIRECT"),
            ("in.example", "DIRECT"),
            ("www.partner.example", "HTTPS secure.corp.example:8443"),
            (
                "out.example",
                "SOCKS5 socks.corp.example:1080; PROXY proxy.corp.example:8080; "
                "PROXY proxy-b.corp.example:8080",
            ),
        ):
            self.assertEqual(box.find(f"https://{host}/", host, known), {"answer": expected})
            parseAnswer(expected)

    def test_oneWithTimes(self) -> None:
        said = self.loaded(BALANCED).find("https://a.example/", "a.example", "")
        self.assertGreater(len(parseAnswer(said["answer"]).choices), 0)


@skipIf(not hasattr(time, "tzset"), "no time zones")
class ConfinementTests(SynchronousTestCase):
    def test_itGivesUpFilesAndProcesses(self) -> None:
        with (
            mock.patch("resource.setrlimit") as limit,
            mock.patch("os.chdir"),
            mock.patch("signal.signal"),
        ):
            sandbox.confine()
        import resource

        wanted = dict(call.args for call in limit.call_args_list)
        self.assertEqual(wanted[resource.RLIMIT_NOFILE], (0, 0))
        self.assertEqual(wanted[resource.RLIMIT_NPROC], (0, 0))
        self.assertEqual(wanted[resource.RLIMIT_FSIZE], (0, 0))
