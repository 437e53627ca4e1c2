"""Comments after values, and secrets that contain something like a comment."""

from __future__ import annotations

import re

from ptunnel.errors import ConfigError

_COMMENT = re.compile(r"(?:^|\s);")
_HASH = re.compile(r"(?:^|\s)#")
# A comment with space on both sides cannot be part of a header.
_SET_OFF = re.compile(r"(?:\s\s|.?\t);(?:\s|$)")

_HEADER_KEY = re.compile(r"\s*header\s*=", re.IGNORECASE)
_FIELD = re.compile(r"\s+[^\s:=;#]+:")

_OWN_LINE = "put a comment on a line of its own"
_NO_HASH = f"a comment behind a value begins with ;, not with #; or {_OWN_LINE}"


def withoutComment(key: str, text: str) -> str:
    """Return a value without the comment after it.

    @param text: one line for each line of the value.
    @raise ConfigError: if it may be the end of a secret instead. The message quotes nothing.
    """
    return "\n".join(_line(key, line) for line in text.split("\n"))


def commentsLast(text: str) -> str:
    """Move comments within a list of header fields behind the list, since the parser would end it
    there. @return: the text of the config file, with the same number of lines.
    """
    lines: list[str] = []
    held: list[str] = []  # comments after which a field may follow
    inList = False
    for line in text.split("\n"):
        if inList and line.lstrip().startswith(("#", ";")):
            held.append(line)
            continue
        if inList and held and _FIELD.match(line):
            lines.append(line)
            continue
        lines += [*held, line]
        held = []
        inList = bool(_HEADER_KEY.match(line) or (inList and _FIELD.match(line)))
    return "\n".join([*lines, *held])


def hashHint(text: str) -> str:
    """Return the end of a message about a value, if it contains a comment after #."""
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
