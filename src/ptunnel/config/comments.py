"""Comments behind values, and secrets that look as if they had one."""

from __future__ import annotations

import re

from ptunnel.errors import ConfigError

_COMMENT = re.compile(r"(?:^|\s);")
_HASH = re.compile(r"(?:^|\s)#")
# What cannot be taken for a part of a header, as it is set off to both sides.
_SET_OFF = re.compile(r"(?:\s\s|.?\t);(?:\s|$)")

_OWN_LINE = "put a comment on a line of its own"
_NO_HASH = f"a comment behind a value begins with ;, not with #; or {_OWN_LINE}"


def withoutComment(key: str, text: str) -> str:
    """A value without the comment behind it.

    @param text: one line for each line of the value.
    @raise ConfigError: where that may be no comment but the end of a secret; it quotes nothing.
    """
    return "\n".join(_line(key, line) for line in text.split("\n"))


def hashHint(text: str) -> str:
    """What is to be said behind the mistake in a value, if that is a comment after #."""
    return f"; {_NO_HASH}" if _HASH.search(text) else ""


def _line(key: str, line: str) -> str:
    comment, hashed = _COMMENT.search(line), _HASH.search(line)
    if key == "password" and (comment or hashed):
        mark = '" ;"' if comment else '" #"'
        what = f"{mark} may be a part of it or begin a comment; {_OWN_LINE}, or the password into"
        raise ConfigError(f"{what} a file for password-file")
    if key == "username" and hashed:
        raise ConfigError(_NO_HASH)
    if key == "url" and hashed and "@" not in line[hashed.end() :]:
        raise ConfigError(_NO_HASH)
    if comment is None:
        return line
    if key == "password-command":
        what = f'" ;" may be a part of it or begin a comment; {_OWN_LINE}'
        raise ConfigError(f"{what}, or write ; without a blank before it")
    if key == "url" and "@" in line[comment.end() :]:
        what = '" ;" may be a part of the password or begin a comment'
        raise ConfigError(f"{what}; write %20%3B in a password, or {_OWN_LINE}")
    if key == "header" and not _SET_OFF.match(line, max(comment.start() - 1, 0)):
        what = f'" ;" may be a part of it or begin a comment; {_OWN_LINE}'
        raise ConfigError(f"{what}, or two blanks before it and one behind")
    return line[: comment.start()].rstrip()
