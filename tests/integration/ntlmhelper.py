"""An NTLM helper for Squid that knows one account: `ntlmhelper.py USER NT_HASH`, the latter in hex.

It checks the NTLMv2 response (MS-NLMP section 3.3.2), as a domain controller does. Copied by
SquidWithPassword to where Squid's user can read it, so it imports the standard library only.
"""

from __future__ import annotations

import hmac
import os
import struct
import sys
from base64 import b64decode, b64encode

SIGNATURE = b"NTLMSSP\0"
DOMAIN = "TEST"
# Unicode, target name, NTLM, always sign, target is a domain, extended session security, target
# information, 128 bits, 56 bits (MS-NLMP section 2.2.2.5).
FLAGS = 0x1 | 0x4 | 0x200 | 0x8000 | 0x10000 | 0x80000 | 0x800000 | 0x20000000 | 0x80000000
HEADER = 48
NETBIOS_COMPUTER, NETBIOS_DOMAIN, END = 1, 2, 0


def challengeMessage(challenge: bytes) -> bytes:
    """MS-NLMP section 2.2.1.2."""
    name = DOMAIN.encode("utf-16-le")
    information = b"".join(
        struct.pack("<HH", kind, len(value)) + value
        for kind, value in ((NETBIOS_DOMAIN, name), (NETBIOS_COMPUTER, name), (END, b""))
    )
    return b"".join(
        (
            SIGNATURE,
            struct.pack("<I", 2),
            struct.pack("<HHI", len(name), len(name), HEADER),
            struct.pack("<I", FLAGS),
            challenge,
            bytes(8),
            struct.pack("<HHI", len(information), len(information), HEADER + len(name)),
            name,
            information,
        )
    )


def userOf(message: bytes, challenge: bytes, account: str, ntHash: bytes) -> str | None:
    """Who has sent an AUTHENTICATE_MESSAGE (MS-NLMP section 2.2.1.3), if that is proved."""

    def field(position: int) -> bytes:
        length, _, offset = struct.unpack_from("<HHI", message, position)
        return message[offset : offset + length]

    response = field(20)
    domain, user = (field(position).decode("utf-16-le") for position in (28, 36))
    identity = (user.upper() + domain).encode("utf-16-le")
    key = hmac.digest(ntHash, identity, "md5")
    proof = hmac.digest(key, challenge + response[16:], "md5")
    return user if user == account and hmac.compare_digest(proof, response[:16]) else None


def main(account: str, ntHash: str) -> None:
    challenge = b""
    for line in sys.stdin:
        command, _, token = line.strip().partition(" ")
        if command == "YR":
            challenge = os.urandom(8)
            answer = f"TT {b64encode(challengeMessage(challenge)).decode()}"
        else:
            user = userOf(b64decode(token), challenge, account, bytes.fromhex(ntHash))
            answer = f"AF {user}" if user else "NA wrong password"
        print(answer, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
