"""Who may import whom. A new module needs a place in these tables."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

# Imports go down this list, never up and never sideways, wherever in a module they stand.
# A folder is one module here; "ptunnel" is what an embedding program imports.
LAYERS = (
    ("__main__",),
    ("cli",),
    ("demo", "joining"),
    ("tap", "tour", "stdio", "check", "hosts"),
    ("workers",),
    ("process",),
    ("ptunnel", "service", "clientstring", "littleproxy", "talk"),
    ("tunnel", "proxyheader", "accepting"),
    ("route",),
    ("endpoint", "failover", "introduce", "target", "tcp", "splice"),
    ("tlsleg",),
    ("visit",),
    ("login", "hops", "health", "sockets", "kernel", "inherited"),
    ("passwords", "watch", "producers", "unixport", "names"),
    ("handshake", "config"),
    ("framing",),
    ("argv", "auth", "log", "refusals", "starttls", "tls"),
    ("sweep", "transports", "leaving"),
    ("errors", "spool", "descriptors"),
    ("causes", "excerpts", "request", "terminal", "_folder", "_version"),
)

# The same within the folder config; "config" is what the others import of it.
CONFIG_LAYERS = (
    ("config",),
    ("settings",),
    ("listens", "options"),
    ("ini", "environment", "bypass"),
    ("proxies",),
    ("tls",),
    ("addresses", "files"),
    ("slips",),
    ("words", "comments"),
    ("values",),
)

# What would be downward, and is wrong all the same: each takes whatever endpoint it is given.
APART = {
    "tunnel": {"route", "endpoint", "tcp", "handshake", "auth", "config"},
    "stdio": {"route", "endpoint", "tcp", "handshake", "auth", "config"},
}

# Bytes in, bytes out, or values: of Twisted they may know the errors, and no reactor.
SANS_IO = {
    "auth",
    "config",
    "errors",
    "excerpts",
    "framing",
    "handshake",
    "refusals",
    "request",
    "starttls",
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


def place(module: str) -> str:
    """Its name in LAYERS."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def ranks(layers: tuple[tuple[str, ...], ...]) -> dict[str, int]:
    return {name: rank for rank, layer in enumerate(layers) for name in layer}


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


class LayerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.trees = {name: parse(path) for name, path in MODULES.items()}
        self.uses = {name: ours(allImports(tree, name)) for name, tree in self.trees.items()}

    def test_everyModuleHasItsPlaceAndNoPlaceIsEmpty(self) -> None:
        self.assertEqual({place(module) for module in MODULES}, set(ranks(LAYERS)))
        inside = {m.split(".")[-1] for m in MODULES if place(m) == "config"}
        self.assertEqual(inside, set(ranks(CONFIG_LAYERS)))

    def test_importsGoDown(self) -> None:
        rank = ranks(LAYERS)
        wrong = [
            f"{module} imports {used}"
            for module, uses in self.uses.items()
            for used in sorted(uses)
            if place(module) != place(used)
            and rank.get(place(used), 0) <= rank.get(place(module), 0)
        ]
        self.assertEqual(wrong, [])

    def test_withinConfigTheyGoDownToo(self) -> None:
        rank = ranks(CONFIG_LAYERS)
        wrong = [
            f"{module} imports {used}"
            for module, uses in self.uses.items()
            for used in sorted(uses)
            if place(module) == place(used) == "config"
            and rank[used.split(".")[-1]] <= rank[module.split(".")[-1]]
        ]
        self.assertEqual(wrong, [])

    def test_othersImportOfConfigOnlyWhatItOffers(self) -> None:
        wrong = [
            f"{module} imports {used}"
            for module, uses in self.uses.items()
            for used in sorted(uses)
            if place(module) != "config" and used.startswith("ptunnel.config.")
        ]
        self.assertEqual(wrong, [])

    def test_whatTakesAnyEndpointImportsNone(self) -> None:
        for module, others in APART.items():
            used = {place(name) for name in self.uses[f"ptunnel.{module}"]}
            self.assertEqual(used & others, set(), module)

    def test_whatDoesNoInputAndOutputKnowsOnlyTheErrorsOfTwisted(self) -> None:
        for module, tree in self.trees.items():
            if place(module) in SANS_IO:
                twisted = {n for n in allImports(tree, module) if n.split(".")[0] == "twisted"}
                wrong = {n for n in twisted if not n.startswith("twisted.internet.error")}
                self.assertEqual(wrong, set(), module)

    def test_noneImportsTheReactorAtOnce(self) -> None:
        trees = {**self.trees, "twisted.plugins.ptunnel_plugin": parse(PLUGIN)}
        for module, tree in trees.items():
            self.assertNotIn("twisted.internet.reactor", importsAtOnce(tree, module), module)

    def test_importingThemAllInstallsNoReactor(self) -> None:
        names = sorted(set(MODULES) - {"ptunnel.__main__"})
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
            "import ptunnel.splice, ptunnel.tunnel, ptunnel; from ptunnel import *\n"
            "import ptunnel.splice\n"
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


class FindingTests(SynchronousTestCase):
    """That the tests above would see what they look for."""

    def test_importsAreSeenWhereverAndHoweverTheyStand(self) -> None:
        for text in (
            "import ptunnel.route",
            "import os, ptunnel.route as r",
            "from ptunnel import route",
            "from ptunnel.route import Route",
            "from . import route",
            "from .route import Route",
            "def f():\n    from ptunnel.route import Route",
            "class C:\n    async def f(self):\n        import ptunnel.route",
            "if TYPE_CHECKING:\n    from ptunnel.route import Route",
        ):
            self.assertEqual(ours(allImports(ast.parse(text), "ptunnel.tunnel")), {"ptunnel.route"})

    def test_aModuleInAFolderIsToldFromTheFolder(self) -> None:
        for text, importer, found in (
            ("from ptunnel.config.words import show", "ptunnel.service", {"ptunnel.config.words"}),
            ("from ptunnel.config import words", "ptunnel.service", {"ptunnel.config.words"}),
            ("from ptunnel.config import Settings", "ptunnel.service", {"ptunnel.config"}),
            ("from ptunnel import Credentials, auth", "ptunnel.tap", {"ptunnel", "ptunnel.auth"}),
            ("from .words import show", "ptunnel.config.ini", {"ptunnel.config.words"}),
            ("from .words import show", "ptunnel.config", {"ptunnel.config.words"}),
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
            self.assertIn(reactor, importsAtOnce(ast.parse(text), "ptunnel.tunnel"), text)
        late = ast.parse("def f():\n    from twisted.internet import reactor")
        self.assertNotIn(reactor, importsAtOnce(late, "ptunnel.tunnel"))
