"""A site over TLS with what git, pip and npm fetch."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import zipfile
from pathlib import Path

from tests.integration.programs import HOST, PATIENCE, Nginx, required
from tests.support import authority

THING = "ptunnel-test-thing"


class SecureSite(Nginx):
    """Nginx over TLS, whose certificate the test authority vouches for.

    It has the page, a repository of git (`repo.git`, with a file `kept`), a package of pip in the
    index `simple/`, and the same of npm in the registry `npm/`.
    """

    def arguments(self) -> list[str]:
        command = super().arguments()
        pair = authority.server(HOST, "localhost")
        path = self.folder / "nginx.conf"
        here = f"{HOST}:{self.port}"
        secure = f"ssl; ssl_certificate {pair.cert}; ssl_certificate_key {pair.key}"
        text = path.read_text().replace(f"listen {here};", f"listen {here} {secure};")
        path.write_text(text.replace("server {", "default_type application/json; server {"))
        self.write("page.html", f"<!doctype html><title>Page</title><p>{self.PAGE}")
        self._repository()
        self._wheel()
        self._package()
        return command

    def url(self, path: str = "") -> str:
        return f"https://{HOST}:{self.port}/{path}"

    def registry(self) -> str:
        # Behind a proxy node takes no certificate that has an address.
        return self.url("npm/").replace(HOST, "localhost")

    def _repository(self) -> None:
        work, bare = self.folder / "work", self.folder / "repo.git"
        work.mkdir()
        (work / "kept").write_text(self.PAGE)
        git = [required("git"), "-c", "user.name=t", "-c", "user.email=t@t.example"]
        for words in (
            ["-C", str(work), "init", "-q"],
            ["-C", str(work), "add", "kept"],
            ["-C", str(work), "commit", "-q", "-m", "kept"],
            ["clone", "-q", "--bare", str(work), str(bare)],
            ["-C", str(bare), "update-server-info"],
        ):
            subprocess.run([*git, *words], check=True, capture_output=True, timeout=PATIENCE)

    def _wheel(self) -> None:
        name = THING.replace("-", "_")
        index = self.folder / "simple" / THING
        index.mkdir(parents=True)
        wheel = f"{name}-1.0-py3-none-any.whl"
        (index / "index.html").write_text(f'<!doctype html><a href="{wheel}">{wheel}</a>')
        about = f"{name}-1.0.dist-info"
        with zipfile.ZipFile(index / wheel, "w") as archive:
            archive.writestr(
                f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {THING}\nVersion: 1.0\n"
            )
            archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
            archive.writestr(f"{about}/RECORD", "")

    def _package(self) -> None:
        registry = self.folder / "npm"
        registry.mkdir()
        about = {"name": THING, "version": "1.0.0"}
        text = json.dumps(about).encode()
        with tarfile.open(registry / f"{THING}.tgz", "w:gz") as archive:
            member = tarfile.TarInfo("package/package.json")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))
        version = {**about, "dist": {"tarball": f"{self.registry()}{THING}.tgz"}}
        (registry / THING).write_text(
            json.dumps(
                {"name": THING, "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}
            )
        )


def files(folder: str) -> set[str]:
    """Return the names of what is in a folder."""
    return {path.name for path in Path(folder).iterdir()}
