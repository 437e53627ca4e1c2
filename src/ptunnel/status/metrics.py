"""The figures of a service for Prometheus, by prometheus-client (the extra `metrics`)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
    UnknownMetricFamily,
)
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.utils import floatToGoString

from ptunnel.ledger import BOUNDS
from ptunnel.ledger.durations import Durations
from ptunnel.ledger.figures import ServiceFigures

# Newer versions of prometheus-client call the same format by a newer number.
PLAIN = "text/plain; version=0.0.4; charset=utf-8"

_BUCKETS = (*map(floatToGoString, BOUNDS), "+Inf")
_OPENMETRICS = re.compile(r"\s*application/openmetrics-text\s*(;|$)", re.IGNORECASE)
_BUT_NOT = re.compile(r";\s*(version\s*=\s*(?!\"?1\.)|q\s*=\s*0(\.0*)?\s*(;|$))", re.IGNORECASE)


class Exposition:
    """Writes the figures in the format that is asked for."""

    def __init__(self, figures: Callable[[], ServiceFigures]) -> None:
        """@param figures: called for each text."""
        self._plain = _registry(_Collector(figures, isOpenMetrics=False))
        self._openMetrics = _registry(_Collector(figures, isOpenMetrics=True))

    def text(self, accept: str | None) -> tuple[str, bytes]:
        """Return a Content-Type and the text.

        @param accept: the request's Accept. OpenMetrics is written to those who name it.
        """
        if wantsOpenMetrics(accept or ""):
            text = openmetrics.generate_latest(self._openMetrics)
            return openmetrics.CONTENT_TYPE_LATEST, text
        return PLAIN, generate_latest(self._plain)


def wantsOpenMetrics(accept: str) -> bool:
    """Whether an Accept header names version 1 of OpenMetrics, as that of Prometheus does."""
    ranges = accept.split(",")
    return any(_OPENMETRICS.match(one) and not _BUT_NOT.search(one) for one in ranges)


def _registry(collector: _Collector) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(collector)
    return registry


class _Collector:
    """Makes families of metrics out of the figures of the moment."""

    def __init__(self, figures: Callable[[], ServiceFigures], isOpenMetrics: bool) -> None:
        self._figures = figures
        self._isOpenMetrics = isOpenMetrics

    def collect(self) -> Iterator[Metric]:
        figures = self._figures()
        yield InfoMetricFamily("ptunnel", "The version.", {"version": figures.version})
        for row in _SERVICE:
            yield row.family([], {"": figures}, self._isOpenMetrics)
        tunnels = {tunnel.name: tunnel for tunnel in figures.tunnels}
        for row in _TUNNEL:
            yield row.family(["tunnel"], tunnels, self._isOpenMetrics)
        proxies = {proxy.name: proxy for proxy in figures.proxies}
        for row in _PROXY:
            yield row.family(["proxy"], proxies, self._isOpenMetrics)


_Kind = type[GaugeMetricFamily | CounterMetricFamily | UnknownMetricFamily | HistogramMetricFamily]


class _Row(NamedTuple):
    """A family of metrics.

    @ivar kind: its type.
    @ivar read: returns the value of one tunnel, proxy or service; or several, by the value of a
        label.
    @ivar second: the name of that label.
    """

    kind: _Kind
    name: str
    text: str
    read: Callable[[Any], float | Mapping[str, int] | Durations]
    second: str | None = None

    def family(
        self, labels: Sequence[str], things: Mapping[str, object], isOpenMetrics: bool
    ) -> Metric:
        """@param labels: the label that has the name of the thing, or none."""
        like = UnknownMetricFamily if isOpenMetrics and self.name in _LIKE_A_GAUGE else self.kind
        every = [*labels, self.second] if self.second else labels
        family = like(self.name, self.text, labels=every)
        add: Callable[..., None] = family.add_metric
        for name, thing in things.items():
            value = self.read(thing)
            if isinstance(value, Durations):
                counts = zip(_BUCKETS, accumulate(value.counts), strict=True)
                add([name], list(counts), value.seconds)
            elif isinstance(value, Mapping):
                for second, count in value.items():
                    add([name, second], count)
            else:
                add([name], value)
        return family


# OpenMetrics names the family of a counter without _total; there is a gauge of that name.
_LIKE_A_GAUGE = {"ptunnel_sessions_total"}

_SERVICE = (
    _Row(
        GaugeMetricFamily,
        "ptunnel_start_time_seconds",
        "When the service was started, in seconds since 1970.",
        lambda service: service.started,
    ),
    _Row(
        GaugeMetricFamily,
        "ptunnel_running",
        "1 while all ports are bound and clients are accepted.",
        lambda service: service.state == "running",
    ),
    _Row(
        GaugeMetricFamily,
        "ptunnel_open_fds",
        "File descriptors of sessions, ports and pipes, of the process or of the fullest worker.",
        lambda service: service.descriptors,
    ),
    _Row(
        GaugeMetricFamily,
        "ptunnel_max_fds",
        "File descriptors that this process may have.",
        lambda service: service.mostDescriptors,
    ),
    _Row(
        GaugeMetricFamily,
        "ptunnel_workers",
        "Worker processes that there should be; 0: the service is one process.",
        lambda service: len(service.workers),
    ),
    _Row(
        GaugeMetricFamily,
        "ptunnel_workers_ready",
        "Worker processes that accept clients.",
        lambda service: sum(worker.ready for worker in service.workers),
    ),
)

_TUNNEL = (
    _Row(
        GaugeMetricFamily,
        "ptunnel_sessions",
        "Sessions now, those that are connecting with them.",
        lambda tunnel: tunnel.sessions,
    ),
    _Row(
        GaugeMetricFamily,
        "ptunnel_sessions_connecting",
        "Sessions that wait for a connection to the target.",
        lambda tunnel: tunnel.connecting,
    ),
    _Row(
        CounterMetricFamily,
        "ptunnel_sessions_total",
        "Clients that were served.",
        lambda tunnel: tunnel.accepted,
    ),
    _Row(
        CounterMetricFamily,
        "ptunnel_refused_total",
        "Clients that were turned away: by allow, by a limit, or because the tunnel is drained.",
        lambda tunnel: tunnel.refused,
    ),
    _Row(
        CounterMetricFamily,
        "ptunnel_left_total",
        "Clients that left before they had a connection to the target.",
        lambda tunnel: tunnel.left,
    ),
    _Row(
        CounterMetricFamily,
        "ptunnel_failures_total",
        "Sessions that got no connection to the target, by cause.",
        lambda tunnel: tunnel.failures,
        "cause",
    ),
    _Row(
        CounterMetricFamily,
        "ptunnel_sessions_ended_total",
        "Sessions that had a connection to the target and have ended, by cause.",
        lambda tunnel: tunnel.ends,
        "cause",
    ),
    _Row(
        HistogramMetricFamily,
        "ptunnel_connect_seconds",
        "From a client's arrival to its connection to the target.",
        lambda tunnel: tunnel.connectTimes,
    ),
    _Row(
        CounterMetricFamily,
        "ptunnel_bytes_total",
        "Bytes to the target (sent) and from it (received).",
        lambda tunnel: {"sent": tunnel.bytesSent, "received": tunnel.bytesReceived},
        "direction",
    ),
    _Row(
        GaugeMetricFamily,
        "ptunnel_tunnel_drained",
        "1 while new clients are turned away, because the tunnel was drained.",
        lambda tunnel: tunnel.drained,
    ),
)

_PROXY = (
    _Row(
        GaugeMetricFamily,
        "ptunnel_proxy_up",
        "0 while it cannot be reached; 1 if it can, or has not been tried.",
        lambda proxy: proxy.trouble is None,
    ),
    _Row(
        GaugeMetricFamily,
        "ptunnel_proxy_drained",
        "1 while no new session goes through it, because it was drained.",
        lambda proxy: proxy.drained,
    ),
    _Row(
        GaugeMetricFamily,
        "ptunnel_proxy_credentials_rejected",
        "1 while credentials are not sent to it, because it has rejected them.",
        lambda proxy: proxy.rejection is not None,
    ),
    _Row(
        CounterMetricFamily,
        "ptunnel_proxy_failures_total",
        "Attempts to reach a target through it that failed, by cause.",
        lambda proxy: proxy.failures,
        "cause",
    ),
    _Row(
        HistogramMetricFamily,
        "ptunnel_proxy_connect_seconds",
        "How long attempts took that reached their target through it.",
        lambda proxy: proxy.connectTimes,
    ),
)
