"""LDAP's StartTLS (RFC 4511 section 4.14), with the little BER that it takes (section 5.1)."""

from __future__ import annotations

from ptunnel.starttls.upgrade import MAX_EXCHANGE, Ready, Upgrade, UpgradeRefused, quoted

START_TLS = b"1.3.6.1.4.1.1466.20037"
NOTICE_OF_DISCONNECTION = b"1.3.6.1.4.1.1466.20036"

_INTEGER, _OCTETS, _ENUMERATED, _SEQUENCE = 0x02, 0x04, 0x0A, 0x30
_EXTENDED_REQUEST, _EXTENDED_RESPONSE = 0x77, 0x78
_REQUEST_NAME = 0x80
_REFERRAL, _RESPONSE_NAME, _RESPONSE_VALUE, _CONTROLS = 0xA3, 0x8A, 0x8B, 0xA0

_RESULTS = {
    1: "operationsError",
    2: "protocolError",
    8: "strongerAuthRequired",
    10: "referral",
    51: "busy",
    52: "unavailable",
    53: "unwillingToPerform",
    80: "other",
}


class Ldap(Upgrade):
    name = "ldap"
    title = "LDAP"
    request = "StartTLS"
    opening = bytes([_SEQUENCE])

    def begin(self) -> bytes:
        name = _encoded(_REQUEST_NAME, START_TLS)
        messageID = _encoded(_INTEGER, b"\1")
        return _encoded(_SEQUENCE, messageID + _encoded(_EXTENDED_REQUEST, name))

    def _end(self) -> int:
        if not self._pending:
            return 0
        if self._pending[0] != _SEQUENCE:
            raise self._foreign()
        try:
            contents = _contents(self._pending, 1)
        except ValueError:
            raise self._foreign() from None
        if contents is None:
            return 0
        if contents.stop > MAX_EXCHANGE:
            raise UpgradeRefused(f"sends a message of more than {MAX_EXCHANGE} bytes")
        return contents.stop if len(self._pending) >= contents.stop else 0

    def _take(self, message: bytes) -> Ready | None:
        try:
            [(_, whole)] = _elements(message)
            (idTag, number), (responseTag, response), *controls = _elements(whole)
            (codeTag, code), (nameTag, _), (textTag, text), *more = _elements(response)
        except ValueError:
            raise self._foreign() from None
        optional = [tag for tag, _ in more]
        name = dict(more).get(_RESPONSE_NAME, b"")
        if (
            (idTag, responseTag) != (_INTEGER, _EXTENDED_RESPONSE)
            or (codeTag, nameTag, textTag) != (_ENUMERATED, _OCTETS, _OCTETS)
            or [tag for tag, _ in controls] not in ([], [_CONTROLS])
            or [t for t in (_REFERRAL, _RESPONSE_NAME, _RESPONSE_VALUE) if t in optional]
            != optional
            or number not in (b"\0", b"\1")
            or len(code) != 1
        ):
            raise self._foreign()
        result = _RESULTS.get(code[0], "result")
        said = f"{result} ({code[0]}) ".encode() + text
        if number == b"\0":  # a notice without a request (section 4.4); unknown ones are ignored
            if name == NOTICE_OF_DISCONNECTION:
                raise UpgradeRefused(f"disconnects: {quoted(said)}")
            return None
        if code != b"\0":
            raise self._refused(said)
        if name not in (b"", START_TLS):
            raise self._foreign()
        return Ready()


def _encoded(tag: int, contents: bytes) -> bytes:
    assert len(contents) < 0x80
    return bytes([tag, len(contents)]) + contents


def _contents(data: bytes | bytearray, at: int) -> range | None:
    """Return where the contents of an element lie.

    @param at: where its length stands.
    @return: None where that has not come whole.
    @raise ValueError: for the indefinite form, and for a length of more than four bytes.
    """
    if at >= len(data):
        return None
    start = at + 1
    length = data[at]
    if length >= 0x80:  # the long form; Active Directory writes four bytes whatever the length
        if not 0x81 <= length <= 0x84:
            raise ValueError("not a length of LDAP")
        start += length - 0x80
        if start > len(data):
            return None
        length = int.from_bytes(data[at + 1 : start], "big")
    return range(start, start + length)


def _elements(data: bytes) -> list[tuple[int, bytes]]:
    """Return the elements that fill the data.

    @return: tags, of one byte, and contents.
    @raise ValueError: where they do not fill it.
    """
    found = []
    at = 0
    while at < len(data):
        contents = _contents(data, at + 1)
        if contents is None or contents.stop > len(data):
            raise ValueError("an element is not whole")
        found.append((data[at], data[contents.start : contents.stop]))
        at = contents.stop
    return found
