"""Folders over HTTP, for pip in a build: `/0/` is the first folder, `/1/` the second."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

NOWHERE = "/nonexistent"


class FoldersHandler(SimpleHTTPRequestHandler):
    """GET and HEAD of files in the folders; no way out of them."""

    folders: Sequence[Path] = ()

    def translate_path(self, path: str) -> str:
        number, _, rest = path.lstrip("/").partition("/")
        if not number.isdigit() or int(number) >= len(self.folders):
            return NOWHERE
        self.directory = str(self.folders[int(number)])
        return super().translate_path("/" + rest)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("folders", type=Path, nargs="*")
    options = parser.parse_args()
    FoldersHandler.folders = options.folders
    ThreadingHTTPServer((options.host, options.port), FoldersHandler).serve_forever()


if __name__ == "__main__":
    main()
