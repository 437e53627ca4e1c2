"""Who is at the other end of a Unix socket."""

from __future__ import annotations

import os
import socket
import struct

_CREDENTIALS = struct.Struct("iII")  # pid, uid, gid


def stranger(connection: socket.socket) -> int | None:
    """Return the user at the other end of a Unix socket, if it is neither ours nor root.

    Where the system cannot tell, the permissions of the socket's file have decided: None.
    """
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return None
    data = connection.getsockopt(socket.SOL_SOCKET, option, _CREDENTIALS.size)
    _, user, _ = _CREDENTIALS.unpack(data)
    return None if user in (0, os.geteuid()) else user
