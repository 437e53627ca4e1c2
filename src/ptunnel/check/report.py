"""The findings of `ptunnel check`, as values, as text and as JSON."""

from __future__ import annotations

import os
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ptunnel.config import DIRECT
from ptunnel.text import printable

_GREEN, _RED, _YELLOW, _DIM = "32", "31", "33", "2"


@dataclass(slots=True)
class Step:
    """One step on a way.

    @ivar kind: "pac", "resolve", "tcp", "unix", "tls", "connect", "socks", "starttls", "banner".
    @ivar subject: the name, address or `host:port` that it is about.
    @ivar ok: whether it succeeded.
    @ivar detail: its result, for people.
    @ivar seconds: since the step before it; None if it did not succeed.
    @ivar facts: its result, for programs.
    """

    kind: str
    subject: str
    ok: bool = False
    detail: str = ""
    seconds: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault of a way.

    @ivar message: the same words as in the log.
    @ivar hint: what to do, or "".
    @ivar cause: the id of a cause in L{ptunnel.causes}; None: unknown.
    """

    message: str
    hint: str = ""
    cause: str | None = None


def bug(error: BaseException, where: str) -> Fault:
    """Return the fault for an exception that should not have been raised.

    Its text is left out, because it may quote anything.

    @param where: the step that raised it.
    """
    frames = traceback.extract_tb(error.__traceback__)
    at = f" at {os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else ""
    message = f"{where}: a bug in ptunnel: {type(error).__name__}{at}"
    return Fault(message, "please report this line; the other steps and ways are not affected")


@dataclass(frozen=True, slots=True)
class WayReport:
    """One way to a target.

    @ivar name: its name in `via`.
    @ivar proxies: `host:port` of each proxy on it, the nearest first.
    @ivar steps: the steps that succeeded, and the one that failed.
    @ivar advice: advice about a way that works; "": none.
    """

    name: str
    proxies: tuple[str, ...]
    steps: tuple[Step, ...]
    fault: Fault | None = None
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Listening:
    """A process listens on the address of a tunnel.

    @ivar address: as in the log.
    @ivar owner: "ptunnel", the name of another program, or "" if it cannot be read.
    @ivar process: its number; None: unknown.
    @ivar fault: None if it may be ptunnel.
    """

    address: str
    owner: str = ""
    process: int | None = None
    fault: Fault | None = None

    @property
    def detail(self) -> str:
        """The owner, for people."""
        if not self.owner:
            return "in use, by a program that cannot be looked at from here"
        if self.fault is None:
            return f"{self.owner} listens there already (process {self.process})"
        return f"in use, by {self.owner} (process {self.process})"


@dataclass(frozen=True, slots=True)
class TunnelReport:
    """A tunnel or door and all its ways.

    @ivar target: `host:port`; of a door what it is, and to which target it was tried.
    @ivar asked: the target to which a door was tried; None: none, and of a tunnel.
    @ivar about: lines about a door, each a word and a text.
    @ivar protocols: what a door speaks; none of a tunnel.
    @ivar listening: the process that listens on its address; None: none does.
    """

    name: str
    target: str
    ways: tuple[WayReport, ...]
    listening: Listening | None = None
    about: tuple[tuple[str, str], ...] = ()
    protocols: tuple[str, ...] = ()
    asked: str | None = None

    @property
    def faults(self) -> tuple[Fault, ...]:
        """The faults of its ways and of its address."""
        found = [way.fault for way in self.ways]
        if self.listening is not None:
            found.append(self.listening.fault)
        return tuple(fault for fault in found if fault is not None)

    @property
    def ok(self) -> bool:
        return not self.faults


def duration(seconds: float) -> str:
    """Return a duration for people: `3 ms`, `2.5 s`."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def asText(report: TunnelReport, colour: bool = False) -> str:
    """Return the report of a tunnel for people, in several lines.

    @param colour: whether to use the escape sequences of terminals.
    """

    def paint(code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if colour else text

    def faultLines(fault: Fault | None) -> list[str]:
        if fault is None:
            return []
        lines = [f"  {paint(_RED, 'failed:')} {printable(fault.message)}"]
        if fault.hint:
            lines.append(f"  {paint(_YELLOW, 'hint:')} {printable(fault.hint)}")
        return lines

    steps = [step for way in report.ways for step in way.steps]
    subjects = max((len(step.subject) for step in steps), default=0)
    details = max((len(step.detail) for step in steps), default=0)
    lines = [report.target if report.name == report.target else f"{report.name}  {report.target}"]
    lines += [f"  {word:<9} {printable(text)}" for word, text in report.about]
    if report.listening is not None:
        taken = report.listening
        kind = paint(_RED, "listen   ") if taken.fault else "listen   "
        lines.append(f"  {kind} {printable(f'{taken.address}  {taken.detail}')}")
        lines += faultLines(taken.fault)
    for way in report.ways:
        lines.append(f"  {_via(way)}")
        for step in way.steps:
            kind = f"{step.kind:<9}"
            row = printable(f"{step.subject:<{subjects}}  {step.detail:<{details}}")
            took = "" if step.seconds is None else duration(step.seconds)
            line = f"    {kind if step.ok else paint(_RED, kind)} {row}  "
            lines.append((line + paint(_DIM, f"{took:>7}") if took else line).rstrip())
        lines += faultLines(way.fault) or [f"  {paint(_GREEN, 'ok')}"]
        if way.advice:
            lines.append(f"  {paint(_YELLOW, 'note:')} {way.advice}")
    return "\n".join(lines)


def _via(way: WayReport) -> str:
    if not way.proxies:
        return "directly" if way.name == DIRECT else f"via {way.name}"
    proxies = ", then ".join(way.proxies)
    return f"via {way.name}" if way.name == proxies else f"via {way.name} ({proxies})"


def summary(reports: Sequence[TunnelReport]) -> str:
    """Return the last line of the text."""
    ways = [way for report in reports for way in report.ways]
    wrong = sum(way.fault is not None for way in ways)
    taken = sum(bool(report.listening and report.listening.fault) for report in reports)
    parts = []
    if wrong:
        parts.append(f"{wrong} of {len(ways)} ways failed" if len(ways) > 1 else "it failed")
    if taken:
        parts.append("an address is taken" if taken == 1 else f"{taken} addresses are taken")
    return ", ".join(parts) or "all is well"


def asDocument(reports: Sequence[TunnelReport], seconds: float) -> dict[str, Any]:
    """Return the document of docs/check.schema.json. @param seconds: the duration of the check."""
    return {
        "ok": all(report.ok for report in reports),
        "seconds": round(seconds, 3),
        "tunnels": [
            {
                "name": report.name,
                "kind": "door" if report.protocols else "tunnel",
                "target": report.asked if report.protocols else report.target,
                "protocols": list(report.protocols),
                "ok": report.ok,
                "listening": _listeningDocument(report.listening),
                "ways": [_wayDocument(way) for way in report.ways],
            }
            for report in reports
        ],
    }


def _wayDocument(way: WayReport) -> dict[str, Any]:
    fault = way.fault
    return {
        "name": way.name,
        "proxies": list(way.proxies),
        "ok": fault is None,
        "steps": [
            {
                "step": step.kind,
                "subject": step.subject,
                "ok": step.ok,
                "seconds": None if step.seconds is None else round(step.seconds, 6),
                **step.facts,
            }
            for step in way.steps
        ],
        "fault": _faultDocument(fault),
        "advice": way.advice,
    }


def _listeningDocument(listening: Listening | None) -> dict[str, Any] | None:
    if listening is None:
        return None
    return {
        "address": listening.address,
        "owner": listening.owner,
        "process": listening.process,
        "fault": _faultDocument(listening.fault),
    }


def _faultDocument(fault: Fault | None) -> dict[str, Any] | None:
    if fault is None:
        return None
    return {"cause": fault.cause, "message": fault.message, "hint": fault.hint}
