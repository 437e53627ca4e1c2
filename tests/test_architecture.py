"""Who may import whom. A new module needs a place in these tables."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

# Imports go down this list, never up and never sideways, wherever in a module they stand.
# A folder is one room; "ptunnel" is what an embedding program imports.
ROOMS = (
    ("__main__", "tap"),
    ("cli",),
    ("demo", "check"),
    ("workers",),
    ("handover",),
    ("ptunnel", "service"),
    ("status",),
    ("ports",),
    ("door",),
    ("session", "route"),
    ("pac",),
    ("config", "connect", "relay", "socks", "starttls"),
    ("login", "tls"),
    ("auth", "net"),
    ("log",),
    ("ledger", "timing"),
    ("errors",),
    ("causes", "filestamp", "text", "twisted_private", "_folder", "_version"),
)

# The same within the rooms. The room's own name is its __init__.
INSIDE = {
    "cli": (
        ("cli",),
        ("dispatch",),
        ("check", "completion", "configcheck", "connect", "demo", "reload", "top"),
        ("frames",),
        ("sessions", "status"),
        ("options", "remoteoptions", "screen"),
        ("client", "document", "quantities", "tables"),
        ("place",),
        ("baseoptions",),
        ("argv", "grouped", "hosts", "output", "stdio", "terminal"),
        ("commands", "live", "remote"),
    ),
    "demo": (("tour",), ("littleproxy", "peers"), ("demo",)),
    "check": (
        ("check",),
        ("doors",),
        ("walk",),
        ("ends", "findings", "named"),
        ("listening", "steps"),
        ("report",),
    ),
    "workers": (
        ("supervisor", "worker"),
        ("watching",),
        ("account", "child", "reports"),
        ("orders",),
        ("workers",),
    ),
    "service": (
        ("reloading", "service"),
        ("handing",),
        ("shown",),
        ("watching",),
        ("serving",),
        ("changes", "factories", "notify", "process", "toll"),
    ),
    "status": (
        ("server",),
        ("site",),
        ("api", "channel", "streams"),
        ("access", "documents", "metrics", "pace", "pages"),
        ("answers",),
        ("status",),
    ),
    "handover": (
        ("begin",),
        ("giving", "successor", "taking"),
        ("messages", "peer"),
        ("handover",),
    ),
    "ports": (
        ("tunnel",),
        ("inherited",),
        ("unixport",),
        ("accepting", "handed", "proxyheader"),
        ("ports",),
    ),
    "door": (
        ("factory",),
        ("forwarded",),
        ("forwarding", "session"),
        ("login", "targets"),
        ("asking",),
        ("forwarder",),
        ("conversation",),
        ("patience",),
        ("client",),
        ("probing",),
        ("challenged",),
        ("authorized", "challenge"),
        ("draining",),
        ("relaying",),
        ("exchange",),
        ("life",),
        ("lines",),
        ("asker", "upstream"),
        ("own",),
        ("answers", "requests", "upload"),
        ("framing",),
        ("fields",),
        ("handshake",),
        ("gate", "refusals"),
        ("chunks", "target"),
        ("head",),
        ("kinds", "pages"),
        ("door", "forward", "http", "messages"),
    ),
    "session": (
        ("tunnel",),
        ("admission", "led", "listing"),
        ("session",),
        ("shown",),
        ("account",),
        ("clients", "episodes", "introduce", "leaving"),
    ),
    "route": (
        ("clientstring",),
        ("routes",),
        ("proxies",),
        ("pacroute",),
        ("balance",),
        ("failover", "figures", "forwards", "own"),
        ("health", "hops", "kept", "pacs"),
        ("clientheader",),
        ("passwords",),
        ("order", "route"),
    ),
    "pac": (
        ("source",),
        ("engine", "fetch"),
        ("answers", "known", "process"),
        ("sandbox",),
        ("pac",),
    ),
    "config": (
        ("config",),
        ("settings",),
        ("commandline", "listens", "making"),
        ("ini",),
        ("pacs",),
        ("proxies",),
        ("environment", "tls"),
        ("targets", "urls"),
        ("addresses",),
        ("sections",),
        ("files",),
        ("words",),
        ("values",),
        ("service",),
        ("ports", "proxy"),
        ("secrets",),
        ("parsers",),
    ),
    "connect": (
        ("endpoint",),
        ("answering",),
        ("reuse",),
        ("attempt",),
        ("handshake",),
        ("body", "heads", "trace"),
        ("refusals",),
        ("request",),
        ("connect",),
    ),
    "relay": (
        ("splice",),
        ("choice", "timeouts", "trace"),
        ("kernel", "tlsleg"),
        ("pipes", "producers", "socketleg"),
        ("leg",),
        ("outcome", "terms"),
        ("legs", "relay"),
    ),
    "socks": (
        ("endpoint",),
        ("attempt",),
        ("entry", "resolving"),
        ("client", "server"),
        ("answers",),
        ("replies",),
        ("side", "wire"),
        ("socks",),
    ),
    "starttls": (("endpoint",), ("starttls",), ("ldap", "lines", "postgres", "xmpp"), ("upgrade",)),
    "login": (
        ("authentication",),
        ("answers",),
        ("exchanges", "trial"),
        ("login",),
        ("turns", "verdicts"),
    ),
    "tls": (("tls",), ("endpoint",), ("settings", "verify"), ("failures", "peer")),
    "auth": (
        ("auth",),
        ("choice",),
        ("digest", "spnego"),
        ("schemes",),
        ("challenges", "credentials"),
    ),
    "net": (
        ("dial",),
        ("sockets",),
        ("attempt", "epoll"),
        (
            "addresses",
            "arrived",
            "asked",
            "descriptors",
            "names",
            "phases",
            "transports",
        ),
        ("net",),
    ),
    "ledger": (
        ("watched",),
        ("counters",),
        ("figures", "stopwatch"),
        ("durations", "said"),
        ("ledger",),
    ),
    "timing": (("deadlines", "backoff"), ("timing",)),
    "log": (("log",), ("layouts",), ("excerpts", "journal", "spool")),
}

# What would be downward, and is wrong all the same: each takes whatever endpoint it is given.
APART = {
    "session": {"config", "connect", "auth", "socks", "starttls"},
    "cli.commands.stdio": {"config", "connect", "auth", "route", "socks", "starttls"},
}

# Bytes in, bytes out, or values: of Twisted they may know the errors, and no reactor.
SANS_IO = {
    "auth",
    "config",
    "connect.body",
    "connect.handshake",
    "connect.heads",
    "connect.refusals",
    "connect.request",
    "door.http.chunks",
    "door.http.gate",
    "door.http.handshake",
    "door.http.head",
    "door.http.pages",
    "door.http.refusals",
    "door.http.target",
    "door.kinds",
    "door.messages.answers",
    "door.messages.fields",
    "door.messages.framing",
    "door.messages.own",
    "door.messages.requests",
    "door.messages.upload",
    "errors",
    "log.excerpts",
    "net.asked",
    "pac.answers",
    "pac.sandbox",
    "socks.answers",
    "socks.client",
    "socks.replies",
    "socks.server",
    "socks.side",
    "socks.wire",
    "starttls.ldap",
    "starttls.lines",
    "starttls.postgres",
    "starttls.upgrade",
    "starttls.xmpp",
}

SOURCE = Path(__file__).parent.parent / "src"
PLUGIN = SOURCE / "twisted" / "plugins" / "ptunnel_plugin.py"


def dotted(path: Path) -> str:
    """ptunnel.config.ini, for example; of a folder, its own name."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {dotted(path): path for path in sorted((SOURCE / "ptunnel").rglob("*.py"))}


def imported(node: ast.AST, importer: str) -> Iterator[str]:
    """What a statement imports, by dotted names.

    `from a import b` is a.b where that is a module of ours, else a; and both of others' modules.
    """
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        start = node.module or ""
        if node.level:
            parts = importer.split(".")
            isFolder = importer in MODULES and MODULES[importer].name == "__init__.py"
            above = parts[: len(parts) - node.level + isFolder]
            start = ".".join([*above, *([start] if start else [])])
        for alias in node.names:
            name = f"{start}.{alias.name}"
            if start not in MODULES:
                yield start
                yield name
            else:
                yield name if name in MODULES else start


def allImports(tree: ast.AST, importer: str) -> set[str]:
    return {name for node in ast.walk(tree) for name in imported(node, importer)}


def importsAtOnce(tree: ast.AST, importer: str) -> set[str]:
    """Those that happen when the module is imported: all but what stands in functions."""
    names = set(imported(tree, importer))
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            names |= importsAtOnce(node, importer)
    return names


def ours(names: set[str]) -> set[str]:
    return names & set(MODULES)


def inside(module: str) -> str:
    """Its dotted name without the package's: config.ini, for example."""
    return module.removeprefix("ptunnel").removeprefix(".") or "ptunnel"


def room(module: str) -> str:
    """Its name in ROOMS."""
    return inside(module).split(".")[0]


def ranks(layers: tuple[tuple[str, ...], ...]) -> dict[str, int]:
    return {name: rank for rank, layer in enumerate(layers) for name in layer}


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


class LayerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.trees = {name: parse(path) for name, path in MODULES.items()}
        self.uses = {name: ours(allImports(tree, name)) for name, tree in self.trees.items()}

    def test_everyModuleHasItsPlaceAndNoPlaceIsEmpty(self) -> None:
        self.assertEqual({room(module) for module in MODULES}, set(ranks(ROOMS)))
        folders = {room(m) for m, path in MODULES.items() if path.parent.name != "ptunnel"}
        self.assertEqual(folders, set(INSIDE))
        for name, layers in INSIDE.items():
            found = {m.split(".")[-1] for m in MODULES if room(m) == name}
            self.assertEqual(found, set(ranks(layers)), name)

    def test_importsGoDown(self) -> None:
        rank = ranks(ROOMS)
        wrong = [
            f"{module} imports {used}"
            for module, uses in self.uses.items()
            for used in sorted(uses)
            if room(module) != room(used) and rank[room(used)] <= rank[room(module)]
        ]
        self.assertEqual(wrong, [])

    def test_withinARoomTheyGoDownToo(self) -> None:
        for name, layers in INSIDE.items():
            rank = ranks(layers)
            wrong = [
                f"{module} imports {used}"
                for module, uses in self.uses.items()
                for used in sorted(uses)
                if room(module) == room(used) == name
                and rank[used.split(".")[-1]] <= rank[module.split(".")[-1]]
            ]
            self.assertEqual(wrong, [])

    def test_theTourServesNobodyElse(self) -> None:
        users = {
            room(module)
            for module, uses in self.uses.items()
            if any(room(used) == "demo" for used in uses)
        }
        self.assertEqual(users - {"demo"}, {"cli"})

    def test_othersImportOfConfigOnlyWhatItOffers(self) -> None:
        wrong = [
            f"{module} imports {used}"
            for module, uses in self.uses.items()
            for used in sorted(uses)
            if room(module) != "config" and used.startswith("ptunnel.config.")
        ]
        self.assertEqual(wrong, [])

    def test_whatTakesAnyEndpointImportsNone(self) -> None:
        for name, others in APART.items():
            for module, uses in self.uses.items():
                if name in (inside(module), room(module)):
                    self.assertEqual({room(used) for used in uses} & others, set(), module)

    def test_whatDoesNoInputAndOutputKnowsOnlyTheErrorsOfTwisted(self) -> None:
        for module, tree in self.trees.items():
            if {inside(module), room(module)} & SANS_IO:
                twisted = {n for n in allImports(tree, module) if n.split(".")[0] == "twisted"}
                wrong = {n for n in twisted if not n.startswith("twisted.internet.error")}
                self.assertEqual(wrong, set(), module)

    def test_noneImportsTheReactorAtOnce(self) -> None:
        trees = {**self.trees, "twisted.plugins.ptunnel_plugin": parse(PLUGIN)}
        for module, tree in trees.items():
            self.assertNotIn("twisted.internet.reactor", importsAtOnce(tree, module), module)

    def test_importingThemAllInstallsNoReactor(self) -> None:
        lacking = set() if find_spec("prometheus_client") else {"ptunnel.status.metrics"}
        names = sorted(set(MODULES) - {"ptunnel.__main__"} - lacking)
        program = (
            f"import sys, {', '.join(names)}; print('twisted.internet.reactor' in sys.modules)"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
        )
        self.assertEqual(done.stdout, "False\n")

    def test_thePluginImportsNothingOfThemAtOnce(self) -> None:
        names = importsAtOnce(parse(PLUGIN), "twisted.plugins.ptunnel_plugin")
        self.assertEqual({name for name in names if name.split(".")[0] == "ptunnel"}, set())

    def test_whatThePluginImportsTwistdHasAlready(self) -> None:
        program = (
            "import sys, twisted.application.app, twisted.plugin; before = set(sys.modules)\n"
            "import twisted.plugins.ptunnel_plugin\n"
            "print(*sorted(set(sys.modules) - before))"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
        )
        self.assertEqual(done.stdout.split(), ["twisted.plugins", "twisted.plugins.ptunnel_plugin"])

    def test_whatAProgramGetsOfThePackageIsNoModuleOfThatName(self) -> None:
        program = (
            "import ptunnel.relay.splice, ptunnel; from ptunnel import *\n"
            "import ptunnel.session.tunnel\n"
            "print([n for n in ptunnel.__all__ if type(getattr(ptunnel, n)) is type(ptunnel)])\n"
            "print(splice is ptunnel.splice, callable(splice))"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
        )
        self.assertEqual(done.stdout, "[]\nTrue True\n")

    def test_eachSaysWhatItIs(self) -> None:
        for path in *MODULES.values(), PLUGIN:
            self.assertTrue(ast.get_docstring(parse(path)), path.name)

    def test_noneListsItsUsers(self) -> None:
        for path in *MODULES.values(), PLUGIN:
            for node in ast.walk(parse(path)):
                if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                    said = ast.get_docstring(node) or ""
                    self.assertNotIn("used by", " ".join(said.split()).lower(), path.name)


class FindingTests(SynchronousTestCase):
    """That the tests above would see what they look for."""

    def test_importsAreSeenWhereverAndHoweverTheyStand(self) -> None:
        for text in (
            "import ptunnel.log",
            "import os, ptunnel.log as r",
            "from ptunnel import log",
            "from ptunnel.log import Log",
            "from . import log",
            "from .log import Log",
            "def f():\n    from ptunnel.log import Log",
            "class C:\n    async def f(self):\n        import ptunnel.log",
            "if TYPE_CHECKING:\n    from ptunnel.log import Log",
        ):
            self.assertEqual(
                ours(
                    allImports(ast.parse(text), "ptunnel.tap"),
                ),
                {"ptunnel.log"},
            )

    def test_aModuleInAFolderIsToldFromTheFolder(self) -> None:
        for text, importer, found in (
            (
                "from ptunnel.config.parsers.words import show",
                "ptunnel.service",
                {"ptunnel.config.parsers.words"},
            ),
            ("from ptunnel.config import ini", "ptunnel.service", {"ptunnel.config.ini"}),
            ("from ptunnel.config import Settings", "ptunnel.service", {"ptunnel.config"}),
            ("from ptunnel import Credentials, auth", "ptunnel.tap", {"ptunnel", "ptunnel.auth"}),
            (
                "from .parsers.words import show",
                "ptunnel.config.ini",
                {"ptunnel.config.parsers.words"},
            ),
            ("from .parsers.words import show", "ptunnel.config", {"ptunnel.config.parsers.words"}),
            ("from ..auth import Credentials", "ptunnel.config.ini", {"ptunnel.auth"}),
        ):
            self.assertEqual(ours(allImports(ast.parse(text), importer)), found, text)

    def test_onlyFunctionsPutAnImportOff(self) -> None:
        reactor = "twisted.internet.reactor"
        for text in (
            "from twisted.internet import reactor",
            "import twisted.internet.reactor",
            "try:\n    from twisted.internet import reactor\nexcept ImportError:\n    pass",
            "class C:\n    from twisted.internet import reactor",
        ):
            self.assertIn(reactor, importsAtOnce(ast.parse(text), "ptunnel.tap"), text)
        late = ast.parse("def f():\n    from twisted.internet import reactor")
        self.assertNotIn(reactor, importsAtOnce(late, "ptunnel.tap"))
