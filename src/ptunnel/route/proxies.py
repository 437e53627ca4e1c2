"""The proxies of some settings: those that are written there, and those that PAC files name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ptunnel.config import Proxy, Settings, Tunnel
from ptunnel.log import Log

if TYPE_CHECKING:
    from ptunnel.route.order.pacroute import Decision
    from ptunnel.route.pacs import Pacs


class Proxies:
    """Without a PAC file, these are those of the settings, and nothing else is imported."""

    def __init__(
        self, reactor: Any, settings: Settings, log: Log, forget: Callable[[str], None]
    ) -> None:
        """@param forget: called with the name of a found proxy that is forgotten."""
        self._reactor = reactor
        self._settings = settings
        self._log = log
        self._forget = forget
        self._pacs: Pacs | None = None

    @property
    def pacs(self) -> Pacs:
        if self._pacs is None:
            from ptunnel.route.pacs import Pacs

            self._pacs = Pacs(self._reactor, self._settings, self._log, self._forget)
        return self._pacs

    def start(self) -> None:
        """Begin to read PAC files. Without it, that begins with the first connection."""
        if self._settings.pacs:
            self.pacs.start()

    def stop(self) -> None:
        """End what runs beside connections. These go on."""
        if self._pacs is not None:
            self._pacs.stop()

    def renew(self, settings: Settings) -> None:
        """Change to other settings, and read PAC files again."""
        self._settings = settings
        if self._pacs is not None:
            self._pacs.renew(settings)
        else:
            self.start()

    def decision(
        self, tunnel: Tunnel, isOwn: Callable[[str, int], bool], isPlain: bool = False
    ) -> Decision | None:
        """Return what asks the PAC files of a tunnel; None for a tunnel without.

        @param isOwn: returns whether ptunnel itself listens there.
        @param isPlain: whether it is for requests for http:// URLs.
        """
        if not self._settings.pacs.keys() & set(tunnel.via):
            return None
        from ptunnel.route.order.pacroute import Decision

        return Decision(self._reactor, tunnel, self.pacs, isOwn, isPlain)

    @property
    def found(self) -> Mapping[str, Proxy]:
        """Those that PAC files have named, by name."""
        return {} if self._pacs is None else self._pacs.found

    def among(self, settings: Settings) -> Settings:
        """Return settings that have the found ones too."""
        found = self.found
        return replace(settings, proxies={**settings.proxies, **found}) if found else settings

    def __getitem__(self, name: str) -> Proxy:
        return self.found.get(name) or self._settings.proxies[name]

    def names(self) -> list[str]:
        return [*self._settings.proxies, *self.found]

    def chain(self, name: str) -> tuple[Proxy, ...]:
        """Return a proxy, and those that it goes through."""
        return (self.found[name],) if name in self.found else self._settings.chain(name)
