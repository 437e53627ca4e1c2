"""Config and password files as text. Used by ini and settings.

The errors say only what is wrong; whoever knows which file it is puts its name before that.
"""

from __future__ import annotations

import os
import stat

from ptunnel.errors import ConfigError

# No config or password comes near this; what does is another file, or has no end.
MAX_FILE = 1024 * 1024


def readText(path: str) -> tuple[str, bool]:
    """
    @return: the file's text, and whether the file is open to others than its owner.
    @raise ConfigError: for what cannot be read, or is not text in UTF-8.
    """
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(MAX_FILE + 1)
    except OSError as e:
        raise ConfigError(e.strerror or "cannot be read") from None
    except ValueError:
        raise ConfigError("not a file name") from None
    if b"\0" in data:
        raise ConfigError("a binary file; it must be text in UTF-8")
    if len(data) > MAX_FILE:
        raise ConfigError(f"larger than {MAX_FILE} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError("not UTF-8") from None
    return text, stat.S_ISREG(mode) and bool(mode & 0o077)


def readPassword(path: str) -> tuple[str, bool]:
    """
    @return: the file's text without one newline at its end, and whether the file is open to others
        than its owner.
    @raise ConfigError: as L{readText}, and where it is empty.
    """
    text, isOpen = readText(path)
    text = text.removesuffix("\n").removesuffix("\r") if text.endswith("\n") else text
    if not text:
        raise ConfigError("the file is empty")
    return text, isOpen
