"""The PAC files of some settings, and the proxies that they have named so far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ptunnel.config import Pac, Proxy, Settings
from ptunnel.log import Log
from ptunnel.pac.source import Source

# How many proxies that are in no [proxy] are remembered, with their health. More than any file has
# in use; one that makes names up must not fill the memory.
MAX_FOUND = 64


class Pacs:
    """
    @ivar settings: the present ones.
    @ivar found: the proxies that are in no [proxy], by name, the one used last behind the others.
    """

    def __init__(
        self, reactor: Any, settings: Settings, log: Log, forget: Callable[[str], None]
    ) -> None:
        """@param forget: called with the name of a found proxy that is forgotten."""
        self._reactor = reactor
        self.settings = settings
        self._log = log
        self._forget = forget
        self._sources: dict[str, Source] = {}
        self.found: dict[str, Proxy] = {}

    def start(self) -> None:
        """Read all files, before anybody asks."""
        for name in self.settings.pacs:
            self.source(name).read()

    def source(self, name: str) -> Source:
        if name not in self._sources:
            pac = self.settings.pacs[name]
            self._sources[name] = Source(self._reactor, pac, self._log)
        return self._sources[name]

    def renew(self, settings: Settings) -> None:
        """Change to other settings, and read all files again."""
        before, self.settings = self.settings, settings
        if (before.pacs, before.proxies) != (settings.pacs, settings.proxies):
            for name in [*self.found]:
                self._drop(name)
        for name, source in [*self._sources.items()]:
            if settings.pacs.get(name) != source.pac:
                source.stop()
                del self._sources[name]
        self.start()

    def stop(self) -> None:
        """End what they run."""
        for source in self._sources.values():
            source.stop()
        self._sources.clear()

    def proxy(self, pac: Pac, named: Proxy) -> Proxy:
        """Return the proxy for one that a file has named: the [proxy] with its host and port; or
        itself, with the credentials of the [pac] if they are for it, and without any else.
        """
        for proxy in self.settings.proxies.values():
            if _place(proxy) == _place(named):
                return proxy
        knows = pac.knows(named.host)
        found = _withLogin(named, pac) if knows else named
        name = _nameOf(named)
        if knows or name in self.settings.proxies:
            name = f"{name} of {pac.name}"
        self._remember(replace(found, name=name))
        return self.found[name]

    def _remember(self, proxy: Proxy) -> None:
        self.found[proxy.name] = self.found.pop(proxy.name, proxy)
        if len(self.found) > MAX_FOUND:
            # Whoever has rejected a password is remembered for longer.
            others = [name for name, each in self.found.items() if each.username is None]
            self._drop(next(iter(others or self.found)))

    def _drop(self, name: str) -> None:
        del self.found[name]
        self._forget(name)


def _withLogin(proxy: Proxy, pac: Pac) -> Proxy:
    auth = "auto" if proxy.isSocks else pac.auth
    return replace(proxy, username=pac.username, password=pac.password, auth=auth)


def _place(proxy: Proxy) -> tuple[str, int]:
    return proxy.host.lower().rstrip("."), proxy.port


def _nameOf(proxy: Proxy) -> str:
    """Return a name that tells what is spoken with it, where that is not plain HTTP."""
    if proxy.isSocks:
        return f"{proxy.protocol}://{proxy.name}"
    return proxy.name if proxy.tls is None else f"https://{proxy.name}"
