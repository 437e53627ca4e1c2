"""The config file as sections and keys, whatever they mean; and the comments behind values."""

from __future__ import annotations

import configparser
import re
from collections.abc import Mapping

from ptunnel.config.files import readText
from ptunnel.errors import ConfigError
from ptunnel.text import printable

_COMMENT = re.compile(r"(?:^|\s);")
_HASH = re.compile(r"(?:^|\s)#")
# A comment with space on both sides cannot be part of a header.
_SET_OFF = re.compile(r"(?:\s\s|.?\t);(?:\s|$)")

_HEADER_KEY = re.compile(r"\s*header\s*=", re.IGNORECASE)
_FIELD = re.compile(r"\s+[^\s:=;#]+:")

_OWN_LINE = "put a comment on a line of its own"
_NO_HASH = f"a comment behind a value begins with ;, not with #; or {_OWN_LINE}"


class _Parser(configparser.RawConfigParser):
    # The inherited pattern ignores text after the bracket; only a comment is allowed there.
    SECTCRE = re.compile(r"\[(?P<header>[^]]+)\](?:\s+;.*)?$")


def sectionsOf(file: str, text: str) -> dict[str, Mapping[str, str]]:
    """Return the sections by header, in order. No error quotes a line: it may be a password."""
    parser = _Parser(
        delimiters=("=",),
        empty_lines_in_values=False,
        default_section="]",  # which no header can be: [DEFAULT] is nothing special
    )
    try:
        parser.read_string(commentsLast(text))
    except configparser.DuplicateOptionError as e:
        where = f"{file}: [{printable(e.section)}] {keyName(e.option)}"
        raise ConfigError(f"{where}: given twice, again in line {e.lineno}") from None
    except configparser.DuplicateSectionError as e:
        where = f"{file}: [{printable(e.section)}]"
        raise ConfigError(f"{where}: given twice, again in line {e.lineno}") from None
    except configparser.MissingSectionHeaderError as e:
        what = "not in a section; begin with [ptunnel], [proxy NAME], [tunnel NAME] or [door NAME]"
        raise ConfigError(f"{file}: line {e.lineno}: {what}") from None
    except configparser.ParsingError as e:
        line = e.errors[0][0]
        raise ConfigError(f"{file}: line {line}: neither [section] nor key = value") from None
    sections: dict[str, Mapping[str, str]] = {}
    for header in parser.sections():
        words = " ".join(header.split())
        if words in sections:
            raise ConfigError(f"{file}: [{printable(words)}]: given twice")
        sections[words] = parser[header]
    return sections


def keyName(text: str) -> str:
    """Return a key as errors name it: of `password: x=`, whose x is secret, only `password`."""
    key = re.match(r"[\w-]*", text)
    return key[0] if key and key[0] == text else f"{key[0] if key else ''}..."


def readKeys(path: str, *keys: str) -> dict[str, str]:
    """Return keys of [ptunnel] as they are written, without a look at all that is beside them.

    @return: only those that are there.
    @raise ConfigError: if the file cannot be read, or is not INI.
    """
    file = printable(path)
    try:
        text = readText(path, pipes=True).text
    except ConfigError as e:
        raise ConfigError(f"{file}: {e}") from None
    section = sectionsOf(file, text).get("ptunnel", {})
    values = {key: withoutComment(key, section[key]) for key in keys if key in section}
    if empty := [key for key, value in values.items() if not value]:
        raise ConfigError(f"{file}: [ptunnel] {empty[0]}: the value is missing")
    return values


# Comments behind values, and secrets that contain something like a comment


def withoutComment(key: str, text: str) -> str:
    """Return a value without the comment after it.

    @param text: one line for each line of the value.
    @raise ConfigError: if it may be the end of a secret instead. The message quotes nothing.
    """
    return "\n".join(_lineWithoutComment(key, line) for line in text.split("\n"))


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


def _lineWithoutComment(key: str, line: str) -> str:
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
