"""Images built by a Docker Engine and kept in a registry, found there by the version's tag and referred to by digest.

The registry alone is asked whether a version's image exists, so it does not matter which machine built it. Layers that
the engine keeps are its cache; a build or a push that fails leaves no tag.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, cast

import docker
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.utils import parse_repository_tag
from urllib3.exceptions import HTTPError

from sluice.errors import BadInput, Unreachable
from sluice.images.build_tar import tar_stream
from sluice.images.context import context_files, default_base, digest_of_context, model_files
from sluice.images.docker_errors import failure, translated, words_of
from sluice.images.docker_log import BuildLog, Event, Progress, PushLog
from sluice.ports import ImageSpec

MODEL, TARGET = "root", "srv/model"
"""In the context, the model's files lie under MODEL/TARGET, and MODEL is copied to `/`: see the Dockerfile."""
SILENCE_SECONDS = 600
"""After so long without a word from the engine it is given up: a push of gigabytes ends with the registry's checks."""
BASE_NAME, BASE_DIGEST = "org.opencontainers.image.base.name", "org.opencontainers.image.base.digest"
REVISION_DIGEST = "sluice.revision.digest"


@dataclass(frozen=True)
class EngineSettings:
    """Which engine builds, and how it may use the registry."""

    docker_host: str
    """As in DOCKER_HOST, e.g. `unix:///var/run/docker.sock`."""
    registry_user: str = ""
    """"" sends no credentials: those that `docker login` left on this machine are used, if any."""
    registry_password: str = field(default="", repr=False)
    build_args: Mapping[str, str] = field(default_factory=dict)
    """For every build: where pip finds packages, the variant of torch, SOURCE."""
    network: str = ""
    """Network of the build's steps, e.g. `host`; "" for the engine's default."""


class DockerImages:
    """The images of one engine's registry."""

    def __init__(
        self,
        settings: EngineSettings,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._now = now
        self._clock = clock

    async def context_digest(self, context: Path) -> str:
        """`sha256:<hex>` over what of the build context goes into an image. Raises BadInput if it is no context."""
        return await asyncio.to_thread(digest_of_context, context)

    async def find(self, repository: str, version: str) -> str | None:
        """`repository@sha256:<hex>` of what the registry has under the version's tag.

        Raises Unreachable if the engine or the registry does not answer, Refused if the registry lets nobody in.
        """
        return await asyncio.to_thread(self._find, repository, version)

    async def build(self, spec: ImageSpec, progress: Progress) -> str:
        """The reference of the version's image, which is built and pushed unless the registry has it.

        Raises BadInput for files that cannot be read, Refused for a build or a push that fails (with the daemon's
        message and the step's last lines), Unreachable if the engine or the registry does not answer.
        """
        return await asyncio.to_thread(self._build, spec, progress)

    def _find(self, repository: str, version: str) -> str | None:
        with self._engine(f"asking the registry for {repository}:{version}") as engine:
            return self._found(engine, repository, version)

    def _build(self, spec: ImageSpec, progress: Progress) -> str:
        tag = f"{spec.repository}:{spec.version}"
        with self._engine(f"building {tag}") as engine:
            if existing := self._found(engine, spec.repository, spec.version):
                progress(f"{existing} exists, nothing to build")
                return existing
            base, labels = self._base(engine, spec, progress)
            with _no_tag_if_it_fails(engine, tag):
                self._make(engine, spec, base, labels, progress)
                if existing := self._found(engine, spec.repository, spec.version):
                    progress(f"{existing} was pushed by another build meanwhile")
                    return existing
                return self._push(engine, spec, progress)

    @contextmanager
    def _engine(self, what: str) -> Iterator[docker.DockerClient]:
        host = self._settings.docker_host
        with (
            translated(host, what),
            closing(docker.DockerClient(base_url=host, timeout=SILENCE_SECONDS)) as engine,
        ):
            yield engine

    def _found(self, engine: docker.DockerClient, repository: str, version: str) -> str | None:
        try:
            found = engine.images.get_registry_data(f"{repository}:{version}", auth_config=self._credentials())
        except NotFound:
            return None
        return f"{repository}@{found.id}"

    def _base(self, engine: docker.DockerClient, spec: ImageSpec, progress: Progress) -> tuple[str, Mapping[str, str]]:
        """The base image by digest, where its registry can tell it, and the labels that say so."""
        with _readable(spec):
            name = spec.base or default_base(spec.context)
        if not name:
            raise BadInput(
                f"image.base: neither the policy nor {spec.context}/Dockerfile (ARG BASE_IMAGE=…) names a base image; "
                "name one"
            )
        credentials = self._credentials() if _host(name) == _host(spec.repository) else None
        try:
            digest = str(engine.images.get_registry_data(name, auth_config=credentials).id)
        except APIError as error:
            if not _has(engine, name):
                remedy = "name one that exists as image.base, or let the engine reach its registry"
                raise failure(f"the base image {name} is not to be had", words_of(error), remedy) from error
            progress(f"base image {name}: the engine's own, no registry tells its digest")
            return name, {BASE_NAME: name}
        pinned = f"{parse_repository_tag(name)[0]}@{digest}"
        if not _has(engine, pinned):
            progress(f"pulling the base image {pinned}")
            _pull(engine, pinned, credentials)
        return pinned, {BASE_NAME: name, BASE_DIGEST: digest}

    def _make(
        self,
        engine: docker.DockerClient,
        spec: ImageSpec,
        base: str,
        labels: Mapping[str, str],
        progress: Progress,
    ) -> None:
        began = self._clock()
        events = engine.api.build(
            fileobj=cast(IO[bytes], tar_stream(_files(spec, progress), folder=f"{MODEL}/{TARGET}")),
            custom_context=True,  # the stream is a tar file already
            tag=f"{spec.repository}:{spec.version}",
            buildargs=dict(self._arguments(spec, base)),
            labels={**labels, REVISION_DIGEST: spec.revision.digest},
            network_mode=self._settings.network or None,
            rm=True,
            forcerm=True,
            decode=True,
        )
        log = BuildLog(progress, self._clock)
        _follow(events, log)
        if log.error:
            what = f"building {spec.repository}:{spec.version} failed at {log.step or 'its start'}"
            raise failure(
                what, log.error + log.last_words(), "mend the context or the revision, then trigger the release again"
            )
        if not log.image:
            raise Unreachable(f"the Docker Engine at {self._settings.docker_host} broke off at {log.step}")
        progress(f"built in {self._clock() - began:.1f} s, {log.cached} of {log.steps} steps from the cache")

    def _push(self, engine: docker.DockerClient, spec: ImageSpec, progress: Progress) -> str:
        what = f"pushing {spec.repository}:{spec.version}"
        log = PushLog(progress, self._clock)
        _follow(
            engine.api.push(
                spec.repository, tag=spec.version, auth_config=self._credentials(), stream=True, decode=True
            ),
            log,
        )
        if log.error:
            raise failure(what, log.error, "see that the registry's connection may write there, then trigger again")
        if not log.digest:
            raise Unreachable(f"{what}: the Docker Engine at {self._settings.docker_host} broke off")
        progress(log.summary())
        return f"{spec.repository}@{log.digest}"

    def _arguments(self, spec: ImageSpec, base: str) -> Mapping[str, str]:
        return {
            **self._settings.build_args,
            "BASE_IMAGE": base,
            "MODEL": MODEL,
            "MODEL_TARGET": "/",
            "MODEL_ID": spec.model or spec.repository.rpartition("/")[2],
            "REVISION": spec.revision.name,
            "VERSION": spec.version,
            "CREATED": self._now().isoformat(timespec="seconds"),
        }

    def _credentials(self) -> dict[str, str] | None:
        settings = self._settings
        if not settings.registry_user:
            return None
        return {"username": settings.registry_user, "password": settings.registry_password}


def _files(spec: ImageSpec, progress: Progress) -> Mapping[str, Path]:
    """What is sent to the engine; without the model's files if they are mounted from a cache."""
    with _readable(spec):
        context = context_files(spec.context)
        model = model_files(spec.revision.location) if spec.weights == "image" else {}
        megabytes = sum(path.stat().st_size for path in model.values()) / 1e6
    progress(f"sending the context and revision {spec.revision.name}, {len(model)} files, {megabytes:.1f} MB")
    return {**context, **{f"{MODEL}/{TARGET}/{name}": path for name, path in model.items()}}


@contextmanager
def _readable(spec: ImageSpec) -> Iterator[None]:
    """Tells files that cannot be read from an engine that cannot be reached."""
    try:
        yield
    except OSError as error:
        raise BadInput(
            f"version {spec.version} cannot be built from {spec.context} and {spec.revision.location}: {error}; "
            "fetch the revision again or correct the rights"
        ) from error


def _follow(events: Iterable[Any], log: BuildLog | PushLog) -> None:
    for event in events:
        log.take(cast(Event, event))


def _pull(engine: docker.DockerClient, name: str, credentials: dict[str, str] | None) -> None:
    repository, digest = parse_repository_tag(name)
    for event in engine.api.pull(repository, tag=digest, auth_config=credentials, stream=True, decode=True):
        if "error" in event:
            raise failure(f"pulling the base image {name}", event["error"], "let the engine reach its registry")


def _has(engine: docker.DockerClient, name: str) -> bool:
    with suppress(ImageNotFound):
        engine.images.get(name)
        return True
    return False


def _host(name: str) -> str:
    """The registry of an image's name, "" for Docker's own."""
    first, slash, _ = name.partition("/")
    return first if slash and (set(first) & set(".:") or first == "localhost") else ""


@contextmanager
def _no_tag_if_it_fails(engine: docker.DockerClient, tag: str) -> Iterator[None]:
    try:
        yield
    except BaseException:
        # An engine that does not answer keeps the tag, which harms nobody: the registry decides what exists.
        with suppress(DockerException, HTTPError, OSError):
            engine.api.remove_image(tag, noprune=True)
        raise
