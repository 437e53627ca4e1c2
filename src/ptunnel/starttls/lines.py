"""Upgrades in the protocols that speak in lines: IMAP, POP3, SMTP, FTP."""

from __future__ import annotations

import re
from abc import abstractmethod
from typing import ClassVar

from ptunnel import causes
from ptunnel.starttls.upgrade import Ready, Upgrade, UpgradeRefused


class Lines(Upgrade):
    """Messages are lines. A line feed alone ends one too; insisting on CRLF would gain nothing.

    @ivar _greeted: the server has said its greeting.
    """

    _greeted = False

    def _end(self) -> int:
        return self._until(b"\n", "a line")


class Imap(Lines):
    """IMAP (RFC 9051 section 6.2.1).

    STARTTLS is asked for without a look at the capabilities, which the greeting need not hold. The
    client is shown none of them, and asks the server for those of under TLS (section 6.2.1).
    """

    name = "imap"
    title = "IMAP"
    opening = b"*"
    greeting = b"* OK ready\r\n"

    _TAG = b"ptunnel1"
    _UNTAGGED = re.compile(rb"\* ([A-Za-z0-9]+)(?: [^\r\n]*)?\r?\n")
    _TAGGED = re.compile(_TAG + rb" (OK|NO|BAD)(?: [^\r\n]*)?\r?\n", re.IGNORECASE)

    def _take(self, message: bytes) -> bytes | Ready | None:
        if not self._greeted:
            return self._judge(message)
        if tagged := self._TAGGED.fullmatch(message):
            if tagged[1].upper() == b"OK":
                return Ready()
            raise self._refused(message[len(self._TAG) :])
        if self._status(message) == b"BYE":
            raise self._refused(message[2:])
        return None

    def _judge(self, message: bytes) -> bytes:
        """@return: the answer to the greeting."""
        status = self._status(message)
        if status == b"PREAUTH":
            # After PREAUTH, STARTTLS is not allowed (section 6.2.1), and a client that needs TLS
            # must close the connection (section 7.1.4).
            raise UpgradeRefused("says PREAUTH, which rules STARTTLS out", causes.NO_STARTTLS)
        if status == b"BYE":
            raise self._refused(message[2:])
        if status != b"OK":
            raise self._foreign(message)
        self._greeted = True
        return self._TAG + b" STARTTLS\r\n"

    def _status(self, message: bytes) -> bytes:
        untagged = self._UNTAGGED.fullmatch(message)
        if untagged is None:
            raise self._foreign(message)
        return untagged[1].upper()


class Pop3(Lines):
    """POP3 (RFC 2595 section 4).

    The client is not shown the greeting's timestamp, so it cannot use APOP: an attacker who could
    choose the timestamp would learn about the password from the answer.
    """

    name = "pop3"
    title = "POP3"
    request = "STLS"
    opening = b"+-"
    greeting = b"+OK ready\r\n"

    _STATUS = re.compile(rb"(\+OK|-ERR)(?:[ \t][^\r\n]*)?\r?\n", re.IGNORECASE)

    def _take(self, message: bytes) -> bytes | Ready | None:
        status = self._STATUS.fullmatch(message)
        if status is None:
            raise self._foreign(message)
        if status[1].upper() == b"-ERR":
            raise self._refused(message)
        if self._greeted:
            return Ready()
        self._greeted = True
        return b"STLS\r\n"


class Replies(Lines):
    """Lines are parts of replies: `250-first`, `250-second`, `250 last`."""

    opening = b"12345"
    _LINE = re.compile(rb"[1-5][0-9][0-9](?:[ -][^\r\n]*)?\r?\n")
    # Whether a line between the first and the last may be anything (RFC 959 section 4.2).
    _free: ClassVar[bool] = False

    def __init__(self, host: str) -> None:
        super().__init__(host)
        self._reply: list[bytes] = []

    def _take(self, message: bytes) -> bytes | Ready | None:
        isNumbered = self._LINE.fullmatch(message) is not None
        fits = isNumbered and (not self._reply or message[:3] == self._reply[0][:3])
        if not fits and not (self._reply and self._free):
            raise self._foreign(message)
        self._reply.append(message)
        if not fits or message[3:4] == b"-":
            return None
        reply, self._reply = self._reply, []
        return self._answered(int(message[:3]), reply)

    @abstractmethod
    def _answered(self, code: int, lines: list[bytes]) -> bytes | Ready | None:
        """Take a whole reply. @return: as L{feed}."""


class Smtp(Replies):
    """SMTP and submission (RFC 3207). The client says its own EHLO under TLS."""

    name = "smtp"
    title = "SMTP"

    # The address literal of RFC 5321 section 4.1.3: no name is valid everywhere, and servers that
    # require a dot in the name accept this.
    _EHLO = b"EHLO [127.0.0.1]\r\n"

    def __init__(self, host: str) -> None:
        super().__init__(host)
        self.greeting = f"220 {host} ESMTP ready\r\n".encode()
        self._offered = False

    def _answered(self, code: int, lines: list[bytes]) -> bytes | Ready | None:
        if not self._greeted:
            if code != 220:
                raise self._refused(b"".join(lines))
            self._greeted = True
            return self._EHLO
        if self._offered:
            if code != 220:
                raise self._refused(b"".join(lines))
            return Ready()
        if code >= 500:  # no ESMTP, so no extensions
            raise self._notOffered()
        if code != 250:
            raise self._refused(b"".join(lines))
        # The first line holds the server's name (RFC 5321 section 4.1.1.1).
        if not any(line[4:].upper().split()[:1] == [b"STARTTLS"] for line in lines[1:]):
            raise self._notOffered()
        self._offered = True
        return b"STARTTLS\r\n"


class Ftp(Replies):
    """FTP (RFC 4217 section 4): the control connection only.

    Data connections go to other ports, which the server names in its answers, and are not carried.
    """

    name = "ftp"
    title = "FTP"
    request = "AUTH TLS"
    greeting = b"220 ready\r\n"
    _free = True

    def _answered(self, code: int, lines: list[bytes]) -> bytes | Ready | None:
        if self._greeted:
            if code != 234:
                raise self._refused(b"".join(lines))
            return Ready()
        if code == 120:  # "ready in a few minutes"; 220 will follow (RFC 959 section 5.4)
            return None
        if code != 220:
            raise self._refused(b"".join(lines))
        self._greeted = True
        return b"AUTH TLS\r\n"
