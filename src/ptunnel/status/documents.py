"""The figures of a service as JSON documents (docs/status.schema.json)."""

from __future__ import annotations

import time
from typing import Any

from ptunnel.ledger.durations import Durations
from ptunnel.ledger.figures import (
    ProxyFigures,
    ServiceFigures,
    SessionFigures,
    SessionList,
    TunnelFigures,
    WorkerFigures,
)
from ptunnel.ledger.said import Said


def statusDocument(figures: ServiceFigures, *, maySteer: bool) -> dict[str, Any]:
    """@param maySteer: whether the client that asks could change something."""
    tunnels = figures.tunnels
    return {
        "version": figures.version,
        "pid": figures.pid,
        "state": figures.state,
        "started": isoTime(figures.started),
        "uptime_seconds": _seconds(figures.uptime),
        "may_steer": maySteer,
        "sessions": figures.sessions,
        "sessions_total": sum(t.accepted for t in tunnels),
        "connecting": sum(t.connecting for t in tunnels),
        "failures_total": sum(sum(t.failures.values()) for t in tunnels),
        "refused_total": sum(t.refused for t in tunnels),
        "bytes_sent": sum(t.bytesSent for t in tunnels),
        "bytes_received": sum(t.bytesReceived for t in tunnels),
        "descriptors": {"used": figures.descriptors, "limit": figures.mostDescriptors},
        "workers": [_worker(w) for w in figures.workers],
        "tunnels": [_tunnel(t) for t in tunnels],
        "proxies": [_proxy(p) for p in figures.proxies],
        "events": [_event(said) for said in figures.said],
    }


def sessionsDocument(listed: SessionList) -> dict[str, Any]:
    return {"total": listed.total, "sessions": [_session(each) for each in listed.sessions]}


def isoTime(seconds: float) -> str:
    """Return a time as the log writes it, with this machine's zone.

    @param seconds: since 1970.
    """
    return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(seconds))


def _worker(worker: WorkerFigures) -> dict[str, Any]:
    return {"number": worker.number, "pid": worker.pid, "ready": worker.ready}


def _tunnel(tunnel: TunnelFigures) -> dict[str, Any]:
    return {
        "name": tunnel.name,
        "kind": tunnel.kind,
        "listen": tunnel.listen,
        "target": tunnel.target or None,
        "protocols": list(tunnel.protocols),
        "via": list(tunnel.via),
        "drained": tunnel.drained,
        "sessions": tunnel.sessions,
        "connecting": tunnel.connecting,
        "sessions_total": tunnel.accepted,
        "connected_total": tunnel.connected,
        "left_total": tunnel.left,
        "refused_total": tunnel.refused,
        "failures": dict(tunnel.failures),
        "ends": dict(tunnel.ends),
        "bytes_sent": tunnel.bytesSent,
        "bytes_received": tunnel.bytesReceived,
        "connect_seconds": _durations(tunnel.connectTimes),
    }


def _proxy(proxy: ProxyFigures) -> dict[str, Any]:
    failed = proxy.lastErrorTime
    return {
        "name": proxy.name,
        "address": proxy.address,
        "well": proxy.trouble is None,
        "trouble": proxy.trouble,
        "drained": proxy.drained,
        "scheme": proxy.scheme,
        "rejection": proxy.rejection,
        "connected_total": proxy.connected,
        "failures": dict(proxy.failures),
        "connect_seconds": _durations(proxy.connectTimes),
        "last_error": proxy.lastError,
        "last_error_time": None if failed is None else isoTime(failed),
    }


def _event(said: Said) -> dict[str, Any]:
    own = {
        "time": isoTime(said.time),
        "level": said.level,
        "tunnel": said.subject,
        "message": said.text,
        "worker": said.worker,
    }
    return own | dict(said.fields) | own  # fields come last, and replace none of these


def _session(session: SessionFigures) -> dict[str, Any]:
    return {
        "number": session.number,
        "client": session.client,
        "tunnel": session.tunnel,
        "target": session.target or None,
        "way": session.way,
        "phase": session.phase,
        "seconds": _seconds(session.seconds),
        "bytes_sent": session.bytesSent,
        "bytes_received": session.bytesReceived,
        "rate": None if session.rate is None else round(session.rate, 1),
    }


def _durations(durations: Durations) -> dict[str, Any]:
    return {
        "count": durations.count,
        "sum": _seconds(durations.seconds),
        "p50": _quantile(durations, 0.5),
        "p90": _quantile(durations, 0.9),
        "p99": _quantile(durations, 0.99),
    }


def _quantile(durations: Durations, share: float) -> float | None:
    found = durations.quantile(share)
    return None if found is None else round(found, 4)


def _seconds(seconds: float) -> float:
    return round(seconds, 3)
