"""SOCKS proxies: microsocks, Dante, `ssh -D`, and one in the open that counts."""

from __future__ import annotations

import os
import socket
import threading

from tests.integration.case import Peer, relay
from tests.integration.programs import (
    HOST,
    ME,
    PATIENCE,
    Program,
    Sshd,
    required,
    shared,
)


class Microsocks(Program):
    """microsocks, for everybody or for one user."""

    def __init__(self, user: str = "", password: str = "") -> None:
        self.credentials = user, password
        super().__init__()

    def arguments(self) -> list[str]:
        user, password = self.credentials
        who = ["-u", user, "-P", password] if user else []
        return [required("microsocks"), "-i", HOST, "-p", str(self.port), *who]


class Dante(Program):
    """Dante's server. It serves no port below 1024.

    Its user names are those of the machine, so a test can give it a wrong one only.
    """

    def __init__(self, method: str = "none") -> None:
        """@param method: how clients log in; or username."""
        self.method = method
        super().__init__()

    user = "root" if os.getuid() == 0 else ME

    def arguments(self) -> list[str]:
        everywhere = "from: 0/0 to: 0/0"
        config = f"""
            logoutput: stderr
            internal: {HOST} port = {self.port}
            external: lo
            clientmethod: none
            socksmethod: {self.method}
            client pass {{ {everywhere} }}
            socks block {{ {everywhere} port 1-1023 command: connect }}
            socks pass {{ {everywhere} command: connect }}
        """
        return [required("danted"), "-f", self.write("danted.conf", config)]


class SshDynamic(Program):
    """`ssh -D` to an sshd of this machine."""

    def arguments(self) -> list[str]:
        sshd = shared(Sshd)
        options = [
            "BatchMode=yes",
            f"IdentityFile={sshd.folder}/user",
            "IdentitiesOnly=yes",
            f"UserKnownHostsFile={sshd.folder}/known_hosts",
            "HostKeyAlias=sshd.test",
            f"User={ME}",
            f"Port={sshd.port}",
        ]
        words = [f"-o{option}" for option in options]
        return [required("ssh"), "-F", "none", "-N", "-D", f"{HOST}:{self.port}", *words, HOST]


class OpenSocks(Peer):
    """A SOCKS5 proxy that demands a password, and keeps each that it is told.

    @ivar told: the messages with user name and password.
    @ivar asked: the requests.
    """

    def __init__(self, user: str, password: str) -> None:
        name, word = user.encode(), password.encode()
        self._right = bytes([1, len(name)]) + name + bytes([len(word)]) + word
        self.told: list[bytes] = []
        self.asked: list[bytes] = []
        super().__init__(self._serve)

    def _serve(self, client: socket.socket) -> None:
        # Whatever is pipelined is lost, as some servers do.
        client.recv(1000)
        client.sendall(b"\5\2")
        self.told.append(client.recv(1000))
        if self.told[-1] != self._right:
            client.sendall(b"\1\1")
            return
        client.sendall(b"\1\0")
        self.asked.append(client.recv(1000))
        request = self.asked[-1]
        host = socket.inet_ntoa(request[4:8]) if request[3] == 1 else request[5:-2].decode()
        with socket.create_connection((host, int.from_bytes(request[-2:], "big"))) as target:
            client.sendall(b"\5\0\0\3\4here\0\1")
            back = threading.Thread(target=relay, args=(target, client), daemon=True)
            back.start()
            relay(client, target)
            back.join(PATIENCE)
