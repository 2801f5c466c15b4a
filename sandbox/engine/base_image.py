"""The base image of builds: Debian and its Python, by debootstrap from the mirror that this machine's apt uses.

Made once and kept as a tar file, so that another engine of the same state directory imports it in seconds.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import docker
from docker.errors import APIError, ImageNotFound

from sandbox.engine.errors import EngineMissing, StartFailed
from sandbox.engine.pip_sources import CERTIFICATES

SUITE = "bookworm"
PACKAGES = "python3,python3-venv,ca-certificates"
REPOSITORY = "sluice-base"
DEFAULT_MIRROR = "http://deb.debian.org/debian"
DEBOOTSTRAP_SECONDS = 900
APT_SOURCES = Path("/etc/apt")

Say = Callable[[str], None]


def ensure_base_image(client: docker.DockerClient, registry: str, state: Path, say: Say) -> str:
    """The base image's name in the registry; made, imported and pushed as far as it is not there.

    Raises EngineMissing without debootstrap, StartFailed if it fails.
    """
    name = f"{registry}/{REPOSITORY}:{SUITE}"
    try:
        client.images.get(name)
    except ImageNotFound:
        archive = state / "base" / f"{SUITE}.tar"
        if not archive.is_file():
            _bootstrap(archive, say)
        client.api.import_image_from_file(str(archive), repository=f"{registry}/{REPOSITORY}", tag=SUITE)
        say(f"imported {name}")
    try:
        client.images.get_registry_data(name)
    except APIError:
        _push(client, name, say)
    return name


def mirror_of(apt_sources: Path = APT_SOURCES) -> str:
    """The first archive that apt's sources name, Debian's own if they name none."""
    files = [apt_sources / "sources.list", *sorted((apt_sources / "sources.list.d").glob("*.sources"))]
    text = "\n".join(file.read_text() for file in files if file.is_file())
    found = re.search(r"^(?:URIs:|deb(?: \[.*?\])?)\s+(https?://\S+/debian/?)(?=\s|$)", text, re.MULTILINE)
    return found[1] if found else DEFAULT_MIRROR


def _bootstrap(archive: Path, say: Say) -> None:
    if not shutil.which("debootstrap"):
        raise EngineMissing("debootstrap is not installed: `apt-get install debootstrap`")
    mirror = mirror_of()
    say(f"making the base image with debootstrap from {mirror} (a minute) …")
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=archive.parent, prefix=".draft-") as draft:
        root = Path(draft) / "root"
        _run(
            ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(root), mirror],
            Path(draft) / "debootstrap.log",
        )
        if CERTIFICATES.is_file():
            shutil.copyfile(CERTIFICATES, root / CERTIFICATES.relative_to("/"))
        for leftovers in ("var/cache/apt/archives", "var/lib/apt/lists"):
            shutil.rmtree(root / leftovers)
        _run(["tar", "--create", f"--file={draft}/whole.tar", f"--directory={root}", "."], Path(draft) / "tar.log")
        (Path(draft) / "whole.tar").replace(archive)


def _run(command: list[str], log: Path) -> None:
    with log.open("wb") as output:
        result = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, timeout=DEBOOTSTRAP_SECONDS)
    if result.returncode:
        lines = "\n".join(f"  {line}" for line in log.read_text(errors="replace").splitlines()[-8:])
        raise StartFailed(f"{command[0]} failed; see whether the mirror answers and the disk has room:\n{lines}")


def _push(client: docker.DockerClient, name: str, say: Say) -> None:
    for event in client.images.push(name, stream=True, decode=True):
        if "error" in event:
            raise StartFailed(f"{name} cannot be pushed to the registry of this machine: {event['error']}")
    say(f"pushed {name}")
