"""The other side of a soak: a proxy and its target in one, and clients, most of which misbehave.

A client says first which plan it follows, and the target then does its part of that plan. So the
client knows what it must get: a prefix of what it has sent and no other byte, an end where the
target ended, a reset where the target was cut off.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import random
import re
import socket
import ssl
import struct
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

HOST = "127.0.0.1"
USER, PASSWORD = "alice", "soak-password"
REALM = "soak"
# Seconds for a client from connect to close, longer than any timeout and fault adds up to.
PATIENCE = 60.0
# Seconds of silence that no timeout of the service may be shorter than.
SILENCE = 2.5
# Seconds for which a nonce is good.
NONCE = 20
HEAD = 17  # the number of a plan as 16 hexadecimal digits, and a newline


@dataclass(frozen=True)
class Plan:
    """What a client and its target will do.

    @ivar size: how many bytes the client means to send.
    @ivar client: "whole", "slow", "stall", "reset" or "mute".
    @ivar target: "echo", "drip", "stall", "reset" or "end".
    @ivar at: after how many bytes either does what it does.
    @ivar wait: seconds of a stall, or for all of something slow.
    """

    number: int
    size: int
    client: str = "whole"
    target: str = "echo"
    at: int = 0
    wait: float = 0.0

    @property
    def data(self) -> bytes:
        return random.Random(self.number).randbytes(self.size)


def healthy(chance: random.Random) -> Plan:
    """A client and a target that do as they should."""
    size = chance.choice([100, 4000, 4000, 70_000])
    return Plan(chance.getrandbits(64), size)


def anyPlan(chance: random.Random) -> Plan:
    """A client or a target that does not, as a rule."""
    size = int(2 ** chance.uniform(0, 20 if chance.random() < 0.2 else 13))
    kinds = [("whole", "echo"), ("slow", "echo"), ("stall", "echo"), ("reset", "echo")]
    kinds += [("mute", "echo"), ("whole", "drip"), ("whole", "stall"), ("whole", "reset")]
    kinds += [("whole", "end"), ("reset", "reset"), ("reset", "stall"), ("slow", "reset")]
    client, target = chance.choice(kinds)
    wait = chance.uniform(0, SILENCE if client != "mute" and chance.random() < 0.8 else 8)
    return Plan(chance.getrandbits(64), size, client, target, chance.randrange(size), wait)


def reset(writer: asyncio.StreamWriter) -> None:
    """Cut a connection off, as the end of a machine or a firewall does."""
    sock = writer.get_extra_info("socket")
    with contextlib.suppress(OSError, AttributeError):  # it is closed already
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Target:
    """Follows plans. @ivar connections: how many there are at the moment."""

    def __init__(self, plans: dict[int, Plan], tls: bool = False) -> None:
        self.plans = plans
        self.connections = 0
        self.accepted = 0
        self.port = 0
        self.tls = tls
        self._server: asyncio.AbstractServer | None = None
        self._context: ssl.SSLContext | None = None

    async def listen(self, context: ssl.SSLContext | None = None) -> None:
        """Listen; on the same port again after `deafen`."""
        self._context = context
        self._server = await asyncio.start_server(
            self._serve, HOST, self.port, ssl=context, backlog=1000
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def deafen(self) -> None:
        """Listen no more; those that are connected stay."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.accepted += 1
        try:
            await asyncio.wait_for(self.talk(reader, writer), PATIENCE)
        except (OSError, EOFError, asyncio.TimeoutError, ssl.SSLError):
            pass
        finally:
            self.connections -= 1
            writer.close()

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.follow(reader, writer)

    async def follow(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The target's part of the plan that the client names."""
        plan = self.plans.get(int(await reader.readexactly(HEAD), 16))
        if plan is None:
            return  # its client has gone
        if plan.target in ("reset", "end", "stall"):
            await self._echo(plan, reader, writer, plan.at)
            if plan.target == "reset":
                if plan.at % 2:
                    await writer.drain()
                    await asyncio.sleep(0.02)
                reset(writer)
                return
            if plan.target == "end":
                if not self.tls:
                    writer.write_eof()
                    while await reader.read(65536):
                        pass
                return
            await asyncio.sleep(plan.wait)
        await self._echo(plan, reader, writer, plan.size)

    async def _echo(
        self, plan: Plan, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, upTo: int
    ) -> None:
        """Send back what comes, to an end or so many bytes."""
        echoed = 0
        while echoed < upTo and (data := await reader.read(min(65536, upTo - echoed))):
            if plan.target == "drip" and echoed < 4096:
                step = max(len(data) // 8, 1)
                for start in range(0, len(data), step):
                    writer.write(data[start : start + step])
                    await asyncio.sleep(min(plan.wait, SILENCE) / 32)
            else:
                writer.write(data)
            echoed += len(data)
            await writer.drain()
        if upTo == plan.size and not self.tls:
            await reader.read(1)  # its end


class Proxy(Target):
    """A proxy that does as it should. @ivar login: None, "basic" or "digest"."""

    def __init__(self, plans: dict[int, Plan], login: str = "", tls: bool = False) -> None:
        super().__init__(plans, tls)
        self.login = login

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not self._admits(head := await reader.readuntil(b"\r\n\r\n")):
            challenge = b'Basic realm="soak"'
            if self.login == "digest":
                challenge = b'Digest realm="soak", nonce="%d", qop="auth", algorithm=SHA-256'
                challenge %= time.monotonic() // NONCE
                if b"response=" in head:
                    challenge += b", stale=true"
            writer.write(b"HTTP/1.1 407 Who are you\r\nProxy-Authenticate: " + challenge)
            writer.write(b"\r\nContent-Length: 0\r\n\r\n")
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await self.follow(reader, writer)

    def _admits(self, head: bytes) -> bool:
        if not self.login:
            return True
        match = re.search(rb"(?i)\nproxy-authorization: (\w+) ([^\r\n]*)", head)
        if match is None:
            return False
        if self.login == "basic":
            return base64.b64decode(match[2]) == f"{USER}:{PASSWORD}".encode()
        fields = dict(re.findall(r'(\w+)="?([^",]*)"?', match[2].decode()))
        if fields["nonce"] != str(int(time.monotonic() // NONCE)):
            return False
        one = _sha(f"{USER}:{REALM}:{PASSWORD}")
        two = _sha(f"CONNECT:{fields['uri']}")
        middle = ":".join(fields[name] for name in ("nonce", "nc", "cnonce", "qop"))
        return bool(fields["response"] == _sha(f"{one}:{middle}:{two}"))


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class BadProxy(Proxy):
    """A proxy that mostly does something else."""

    def __init__(self, plans: dict[int, Plan], chance: random.Random, tls: bool = False) -> None:
        super().__init__(plans, tls=tls)
        self._chance = chance

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        chance = self._chance
        if chance.random() < 0.05:
            reset(writer)  # before it is asked
            return
        await reader.readuntil(b"\r\n\r\n")
        kinds: list[Callable[..., Coroutine[Any, Any, None]]] = [
            self._refuse,
            self._fail,
            self._garbage,
            self._drip,
            self._silence,
            self._half,
            self._endless,
            self._ask,
            self._cut,
            self._end,
        ]
        await chance.choice(kinds)(chance, reader, writer)

    async def _refuse(self, chance: random.Random, _: Any, writer: asyncio.StreamWriter) -> None:
        body = b"<p>no\x1b[31m " * chance.randrange(10_000)
        status = chance.choice([b"403 No", b"500 Error", b"302 Elsewhere", b"999 ?", b"400 Bad"])
        length = len(body) + chance.choice([0, 0, 1000])
        writer.write(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, length, body))
        await writer.drain()

    async def _fail(self, chance: random.Random, _: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 502 Bad Gateway\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(chance.randrange(40)):
            writer.write(b"1\r\nx\r\n")
            await asyncio.sleep(chance.uniform(0, 0.1))
        reset(writer)

    async def _garbage(self, chance: random.Random, _: Any, writer: asyncio.StreamWriter) -> None:
        # The NUL, because else some of it would be the end of a good answer.
        heads = [b"HTTP/1.1 200 \0", b"HTTP/1.1 200 OK\r\nA: b\r\n\0", b"SSH-2.0-x", b""]
        writer.write(chance.choice(heads) + chance.randbytes(chance.randrange(1, 5000)))
        await writer.drain()
        await asyncio.sleep(chance.uniform(0, 1))

    async def _drip(
        self, chance: random.Random, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        for byte in b"HTTP/1.1 200 OK\r\nServer: slow\r\n\r\n":
            writer.write(bytes([byte]))
            await asyncio.sleep(chance.uniform(0, 0.05))
        await self.follow(reader, writer)

    async def _silence(
        self, chance: random.Random, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(reader.read(), chance.uniform(0, 10))
        if chance.random() < 0.5:
            reset(writer)

    async def _half(self, chance: random.Random, _: Any, writer: asyncio.StreamWriter) -> None:
        answer = b"HTTP/1.1 200 Connection established\r\nServer: half\r\n\r\n"
        writer.write(answer[: chance.randrange(len(answer))])
        if chance.random() < 0.5:
            await asyncio.sleep(chance.uniform(0, 0.2))
            reset(writer)

    async def _endless(self, chance: random.Random, _: Any, writer: asyncio.StreamWriter) -> None:
        lines = [b"A: b\r\n", b"A: %b\r\n" % (b"b" * 9000), b"HTTP/1.1 100 On\r\n\r\n"]
        line = chance.choice(lines)
        if line is not lines[2]:  # behind this it would be a line of a good answer
            writer.write(b"HTTP/1.1 200 OK\r\n")
        for _ in range(20_000 if line is lines[0] else 500):
            writer.write(line)
            await writer.drain()

    async def _ask(
        self, chance: random.Random, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        offer = chance.choice([b"", b"Proxy-Authenticate: NTLM\r\n", b"Proxy-Authenticate: ,=\r\n"])
        writer.write(b"HTTP/1.1 407 Who\r\n%bContent-Length: 5\r\n\r\n" % offer)
        await asyncio.sleep(chance.uniform(0, 0.5))
        writer.write(b"hello")
        await self._silence(chance, reader, writer)

    async def _cut(self, chance: random.Random, _: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await asyncio.sleep(chance.choice([0, 0.001, 0.1]))
        reset(writer)

    async def _end(self, chance: random.Random, _: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        if chance.random() < 0.5:  # else the end comes in the same read
            await asyncio.sleep(0.001)


@dataclass
class Outcome:
    """What a client has met.

    @ivar got: what it received.
    @ivar how: "end", "reset" or "hung"; "left" where it did not wait to see.
    """

    plan: Plan
    began: float
    got: bytes = b""
    how: str = "left"
    ended: float = 0.0


async def visit(port: int, plan: Plan, tls: bool) -> Outcome:
    """The client's part of a plan, through a tunnel.

    @param tls: whether the way is one over TLS, in which neither side can end alone.
    """
    outcome = Outcome(plan, time.monotonic())
    try:
        reader, writer = await asyncio.wait_for(
            asyncio.open_connection(HOST, port, limit=1 << 21), PATIENCE
        )
    except (OSError, asyncio.TimeoutError):
        outcome.how = "refused"
        outcome.ended = time.monotonic()
        return outcome
    sending = asyncio.create_task(_send(writer, plan, tls))
    try:
        await asyncio.wait_for(_receive(reader, writer, outcome, tls), PATIENCE)
    except (asyncio.TimeoutError, TimeoutError):
        outcome.how = "hung"
    except OSError:
        outcome.how = "reset"
    finally:
        sending.cancel()
        with contextlib.suppress(asyncio.CancelledError, OSError):
            await sending
        writer.close()
    outcome.ended = time.monotonic()
    return outcome


async def _send(writer: asyncio.StreamWriter, plan: Plan, tls: bool) -> None:
    with contextlib.suppress(OSError):
        if plan.client == "mute":
            return
        writer.write(b"%016x\n" % plan.number)
        data = plan.data
        if plan.client in ("stall", "reset"):
            writer.write(data[: plan.at])
            if plan.client == "reset":
                if plan.at % 2:
                    await writer.drain()
                    await asyncio.sleep(min(plan.wait, 0.5))
                reset(writer)
                return
            await asyncio.sleep(plan.wait)
            data = data[plan.at :]
        for start in range(0, len(data), 65536):
            writer.write(data[start : start + 65536])
            await writer.drain()
        if not tls:
            writer.write_eof()


async def _receive(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, outcome: Outcome, tls: bool
) -> None:
    plan = outcome.plan
    if plan.client == "mute":
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(reader.read(1), plan.wait)
        if plan.at % 2:
            reset(writer)
        return
    got = bytearray()
    try:
        while True:
            if plan.client == "slow" and len(got) < 8 * 4096:
                data = await reader.read(4096)
                await asyncio.sleep(min(plan.wait, SILENCE) / 16)
            else:
                data = await reader.read(65536)
            if not data:
                break
            got += data
            if tls and len(got) >= plan.size and plan.target != "reset":
                break  # where it could not end its own direction
        outcome.how = "end"
    finally:
        outcome.got = bytes(got)


def wrong(outcome: Outcome, *, sure: bool, tls: bool) -> str:
    """What a client met that it must not, or "".

    @param sure: whether the way leads to its target, whatever that then does.
    """
    plan, got, how = outcome.plan, outcome.got, outcome.how
    why = ""
    if how == "hung":
        why = f"nothing ended it within {PATIENCE:g} s, after {len(got)} of {plan.size} bytes"
    elif how == "refused":
        why = "it could not connect"
    elif got != plan.data[: len(got)]:
        why = f"it got {len(got)} bytes, not those that it had sent"
    elif plan.client in ("mute", "reset") or plan.wait > SILENCE:
        pass
    elif plan.target == "reset":
        if how != "reset" and (sure or got):
            why = f"its target was cut off, and it saw an {how}"
    elif sure and not (plan.target == "end" and tls):
        due = plan.at if plan.target == "end" else plan.size
        if (how, len(got)) != ("end", due):
            why = f"it got {len(got)} of {due} bytes, then: {how}"
    return why
