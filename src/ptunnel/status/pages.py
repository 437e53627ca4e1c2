"""The files of the page, served from memory."""

from __future__ import annotations

from pathlib import Path

from ptunnel.status.answers import Answer

FOLDER = Path(__file__).parent / "page"
INDEX = "index.html"

_KINDS = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}


def readPages(folder: Path = FOLDER) -> dict[str, Answer]:
    """Return the answers with the files of a folder, by name; "" is the index.

    What is asked for is looked up by name, so no path leads out of the folder.
    """
    pages = {
        path.name: Answer(200, path.read_bytes(), _KINDS[path.suffix])
        for path in sorted(folder.iterdir())
        if path.suffix in _KINDS and path.is_file()
    }
    if INDEX in pages:
        pages[""] = pages[INDEX]
    return pages
