"""The model server's stand-in as a real image, in the registry of the tests' engine."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

DOCKERFILE = """\
FROM {base}
COPY server.py /srv/server.py
ENV BUNDLE=stand-in PORT=1
USER {user}
ENTRYPOINT ["python3", "/srv/server.py"]
"""


def push_stand_in(client: Any, base_image: str, repository: str, user: int = 10001) -> str:
    """Build it and push it; returns `repository@sha256:…`. `client` is a `docker.APIClient`."""
    files = {"Dockerfile": DOCKERFILE.format(base=base_image, user=user).encode()}
    files["server.py"] = Path(__file__).with_name("model_stand_in.py").read_bytes()
    for line in client.build(fileobj=_tar(files), custom_context=True, tag=f"{repository}:test", rm=True, decode=True):
        assert "error" not in line, line
    for line in client.push(repository, tag="test", stream=True, decode=True):
        assert "error" not in line, line
    digests = client.inspect_image(f"{repository}:test")["RepoDigests"]
    return str(next(digest for digest in digests if digest.startswith(f"{repository}@")))


def _tar(files: dict[str, bytes]) -> io.BytesIO:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    whole.seek(0)
    return whole
