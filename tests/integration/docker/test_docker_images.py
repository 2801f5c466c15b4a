"""Images built by a real engine and kept in a real registry: found by version, whole or not there at all."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import docker
import pytest
from docker.errors import ImageNotFound
from stand_in import WEIGHTS_BYTES, revision

from benchmarks.server.images import stored_bytes
from sandbox.engine.description import Engine
from sluice.errors import Refused, Unreachable
from sluice.images.docker_engine import DockerImages, EngineSettings
from sluice.ports import ImageSpec

pytestmark = pytest.mark.slow


def silent(_: str) -> None: ...


def tag(spec: ImageSpec) -> str:
    return f"{spec.repository}:{spec.version}"


def has(client: docker.DockerClient, name: str) -> bool:
    try:
        client.images.get(name)
    except ImageNotFound:
        return False
    return True


def run(client: docker.DockerClient, image: str, *command: str) -> str:
    printed = client.containers.run(image, list(command), network_mode="none", remove=True)
    return bytes(printed).decode().strip()


def without_base(spec: ImageSpec) -> ImageSpec:
    """Of a few bytes: another registry has none of the base image's layers."""
    (spec.context / "Dockerfile").write_text("FROM scratch\nCOPY serving serving\n")
    return spec


# --- found and not built again --------------------------------------------------------------------------------------


async def test_an_image_is_found_in_the_registry_by_its_version(images: DockerImages, spec: ImageSpec) -> None:
    assert await images.find(spec.repository, spec.version) is None
    reference = await images.build(spec, silent)
    assert reference.startswith(f"{spec.repository}@sha256:")
    assert await images.find(spec.repository, spec.version) == reference
    assert await images.find(spec.repository, "other") is None


async def test_what_another_machine_has_pushed_is_not_built_again(
    images: DockerImages, spec: ImageSpec, client: docker.DockerClient
) -> None:
    reference = await images.build(spec, silent)
    client.images.remove(tag(spec))
    said: list[str] = []
    assert await images.build(spec, said.append) == reference
    assert said == [f"{reference} exists, nothing to build"]
    assert not has(client, tag(spec))


async def test_the_digest_is_the_one_by_which_the_image_can_be_pulled(
    images: DockerImages, spec: ImageSpec, client: docker.DockerClient
) -> None:
    reference = await images.build(spec, silent)
    client.images.remove(tag(spec))
    assert client.images.pull(reference).labels["org.opencontainers.image.version"] == spec.version


# --- what is in it --------------------------------------------------------------------------------------------------


async def test_a_revisions_files_are_in_the_image_but_not_its_settings(
    images: DockerImages, spec: ImageSpec, client: docker.DockerClient
) -> None:
    await images.build(spec, silent)
    assert run(client, tag(spec), "ls", "/srv/model").split() == ["config.json", "model.safetensors"]
    assert run(client, tag(spec), "stat", "--format=%u %a %Y", "/srv/model/config.json") == "0 644 0"


async def test_weights_from_a_cache_are_not_in_the_image(
    images: DockerImages, spec: ImageSpec, client: docker.DockerClient
) -> None:
    await images.build(replace(spec, weights="cache"), silent)
    assert run(client, tag(spec), "ls", "/srv/model") == ""


async def test_labels_say_from_what_it_was_made(
    images: DockerImages, spec: ImageSpec, client: docker.DockerClient
) -> None:
    await images.build(spec, silent)
    labels = client.images.get(tag(spec)).labels
    base = client.images.get_registry_data(spec.base).id
    assert labels == {
        "org.opencontainers.image.revision": "r1",
        "org.opencontainers.image.version": "a1b2c3",
        "org.opencontainers.image.base.name": spec.base,
        "org.opencontainers.image.base.digest": base,
        "sluice.revision.digest": "sha256:r1",
    }


async def test_the_same_weights_are_the_same_layer_on_whatever_they_lie(
    images: DockerImages, spec: ImageSpec, client: docker.DockerClient
) -> None:
    await images.build(spec, silent)
    (spec.context / "serving" / "__init__.py").write_text("# another server\n")
    other = replace(spec, version="other")
    await images.build(other, silent)
    one, two = (client.images.get(tag(each)).attrs["RootFS"]["Layers"] for each in (spec, other))
    assert one[-1] == two[-1]
    assert one[-2] != two[-2]


async def test_a_refresh_pushes_nothing_but_the_weights(
    images: DockerImages, spec: ImageSpec, docker_engine: Engine, tmp_path: Path
) -> None:
    await images.build(spec, silent)
    storage, repository = Path(docker_engine.registry_storage), spec.repository.partition("/")[2]
    before = stored_bytes(storage, repository)
    await images.build(replace(spec, version="refreshed", revision=revision(tmp_path / "r2", "r2")), silent)
    assert 0 < stored_bytes(storage, repository) - before - WEIGHTS_BYTES < 50_000


# --- progress and failures ------------------------------------------------------------------------------------------


async def test_progress_names_steps_and_what_was_pushed(images: DockerImages, spec: ImageSpec) -> None:
    said: list[str] = []
    await images.build(spec, said.append)
    assert said[0] == "sending the context and revision r1, 2 files, 0.3 MB"
    assert [line.split(" : ")[1] for line in said if line.startswith("Step ")] == [
        "FROM ${BASE_IMAGE}",
        "RUN head -c 8000000 /dev/urandom > /opt/packages",
        "COPY serving serving",
        "COPY ${MODEL} ${MODEL_TARGET}",
    ]
    assert any(re.fullmatch(r"built in \S+ s, \d+ of 14 steps from the cache", line) for line in said)
    assert any(re.fullmatch(r"pushed layer [0-9a-f]{12}, 0.3 MB", line) for line in said)
    assert re.fullmatch(r"pushed \d layers, \S+ MB before compression; \d were there", said[-1])


async def test_a_failed_step_is_refused_with_its_last_lines_and_leaves_no_image(
    images: DockerImages, spec: ImageSpec, client: docker.DockerClient
) -> None:
    with (spec.context / "Dockerfile").open("a") as file:
        file.write("RUN echo no such package >&2; exit 3\n")
    with pytest.raises(
        Refused, match=r"(?s)failed at Step 12/15 : RUN .*returned a non-zero code: 3\n  no such package; mend"
    ):
        await images.build(spec, silent)
    assert not has(client, tag(spec))
    assert await images.find(spec.repository, spec.version) is None


async def test_the_engines_own_message_says_what_is_wrong_with_a_dockerfile(
    images: DockerImages, spec: ImageSpec
) -> None:
    (spec.context / "Dockerfile").write_text("FORM scratch\n")
    with pytest.raises(Refused, match=r"(?i)unknown instruction: FORM"):
        await images.build(spec, silent)


async def test_a_base_image_that_nobody_has_is_refused(images: DockerImages, spec: ImageSpec) -> None:
    with pytest.raises(Refused, match=r"the base image .*/none:1 is not to be had: manifest unknown"):
        await images.build(replace(spec, base=f"{spec.repository}/none:1"), silent)


async def test_a_base_image_that_only_the_engine_has_is_used(
    images: DockerImages, spec: ImageSpec, client: docker.DockerClient
) -> None:
    client.images.get(spec.base).tag("only-here", "1")
    said: list[str] = []
    await images.build(replace(spec, base="only-here:1"), said.append)
    client.images.remove("only-here:1")
    assert "base image only-here:1: the engine's own, no registry tells its digest" in said


async def test_a_registry_that_does_not_answer_may_do_so_later(images: DockerImages, spec: ImageSpec) -> None:
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:1/stand-in:a1b2c3: .*connection refused"):
        await images.build(replace(spec, repository="127.0.0.1:1/stand-in"), silent)


async def test_a_registry_that_takes_nothing_is_refused_and_no_tag_stays(
    images: DockerImages, spec: ImageSpec, client: docker.DockerClient, registry: Callable[[str], str]
) -> None:
    read_only = "storage: {maintenance: {readonly: {enabled: true}}, filesystem: {rootdirectory: %s}}"
    spec = replace(without_base(spec), repository=f"{registry(read_only)}/stand-in")
    with pytest.raises(Refused, match=r"pushing .*/stand-in:a1b2c3: .*405.*; see that"):
        await images.build(spec, silent)
    assert not has(client, tag(spec))


async def test_credentials_are_shown_to_the_registry_and_kept_nowhere(
    engine_settings: EngineSettings, spec: ImageSpec, registry: Callable[[str], str], tmp_path: Path
) -> None:
    users = tmp_path / "users"
    users.write_text("ci:$2b$05$TIkZipUO0PbAdl5q2BMeWuUIzqW3ndtSGIYhu7NiWrL4Ts7Dm6L5W\n")  # "secret"
    guarded = f"storage: {{filesystem: {{rootdirectory: %s}}}}\nauth: {{htpasswd: {{realm: tests, path: {users}}}}}"
    spec = replace(without_base(spec), repository=f"{registry(guarded)}/stand-in")
    known = DockerImages(replace(engine_settings, registry_user="ci", registry_password="secret"))
    reference = await known.build(spec, silent)
    assert await known.find(spec.repository, spec.version) == reference
    for user in ("", "somebody"):
        stranger = DockerImages(replace(engine_settings, registry_user=user, registry_password="guessed"))
        with pytest.raises(Refused, match=r"no basic auth credentials|unauthorized"):
            await stranger.find(spec.repository, spec.version)
