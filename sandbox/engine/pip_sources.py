"""What pip reaches on this machine, said so that pip in a container reaches it too: folders become URLs on loopback."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
"""The host's CA bundle, at the same place in the base image."""
INDEXES = ("index-url", "extra-index-url")
PASSED_ON = (*INDEXES, "find-links", "trusted-host")
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")

UrlOf = Callable[[Path], str]


def pip_options(listing: str) -> Mapping[str, str]:
    """Option → value from what `pip config list` prints; pip's order of scopes: the environment wins."""
    scopes = ("global.", "install.", ":env:.")
    lines = [line.partition("=") for line in listing.splitlines() if "=" in line]
    found = {name: str(ast.literal_eval(value)) for name, _, value in lines}
    return {
        name.removeprefix(scope): value for scope in scopes for name, value in found.items() if name.startswith(scope)
    }


def read_pip_options() -> Mapping[str, str]:
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True, timeout=60
    )
    return pip_options(listing.stdout)


def folders(options: Mapping[str, str]) -> tuple[Path, ...]:
    """The local folders among pip's sources that have to be served.

    Pages of an index link to files beside the index, so its parent is served.
    """
    indexes = {folder.parent for name in INDEXES for word in options.get(name, "").split() if (folder := _folder(word))}
    links = {folder for word in options.get("find-links", "").split() if (folder := _folder(word))}
    return tuple(sorted(indexes | links))


def build_args(options: Mapping[str, str], url_of: UrlOf, environment: Mapping[str, str]) -> Mapping[str, str]:
    """Build arguments: pip's sources with `url_of` for each of `folders`, the CA bundle, and the host's proxies."""
    served = {
        f"PIP_{name.upper().replace('-', '_')}": " ".join(_reachable(word, name, url_of) for word in value.split())
        for name in PASSED_ON
        if (value := options.get(name))
    }
    return (
        served | {"PIP_CERT": str(CERTIFICATES)} | {name: environment[name] for name in PROXIES if name in environment}
    )


def _reachable(word: str, option: str, url_of: UrlOf) -> str:
    folder = None if option == "trusted-host" else _folder(word)
    if folder is None:
        return word
    return f"{url_of(folder.parent)}/{folder.name}/" if option in INDEXES else f"{url_of(folder)}/"


def _folder(word: str) -> Path | None:
    """The directory that a source names, as a path or a file:// URL; None for one that is elsewhere."""
    parts = urlsplit(word)
    if parts.scheme not in ("", "file"):
        return None
    path = Path(unquote(parts.path))
    return path if path.is_dir() else None
