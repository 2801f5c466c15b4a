"""The tests' engine itself: what it needs, what it passes on to builds, and that it stops nothing but its own."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from sandbox.engine.base_image import DEFAULT_MIRROR, mirror_of
from sandbox.engine.description import Engine
from sandbox.engine.errors import EngineMissing
from sandbox.engine.lifecycle import borrowed, down, up
from sandbox.engine.pip_sources import build_args, folders, pip_options
from tests.docker_engine import STATE


def silent(_: object) -> None: ...


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    state = tmp_path / "state"
    yield state
    down(state, silent)


def test_what_is_not_installed_is_named_with_the_remedy(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(EngineMissing, match=r"is not installed: `apt-get install .*docker-registry"):
        up(state, silent, environment={"DOCKER_HOST": "unix:///nonexistent"})


def test_no_engine_where_none_was_started(tmp_path: Path) -> None:
    with pytest.raises(EngineMissing, match=r"engine\.json describes no engine .*run `python -m sandbox\.engine up"):
        Engine.read(tmp_path / "engine.json")


@pytest.mark.slow
def test_an_engine_that_is_named_is_used_and_not_stopped(
    state: Path, docker_engine: Engine, client: docker.DockerClient
) -> None:
    environment = {"DOCKER_HOST": docker_engine.docker_host}
    started = up(state, silent, base_image="debian:12", environment=environment)
    assert started.engine.docker_host == docker_engine.docker_host
    assert started.engine.base_image == "debian:12"
    assert Engine.read(state / "engine.json") == started.engine
    registry = f"http://{started.engine.registry}/v2/"
    assert urllib.request.urlopen(registry, timeout=5).status == 200
    down(state, silent)
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(registry, timeout=5)
    assert client.ping()


@pytest.mark.slow
def test_ports_stay_the_same_over_a_restart_since_they_are_part_of_the_cache(
    state: Path, docker_engine: Engine
) -> None:
    environment = {"DOCKER_HOST": docker_engine.docker_host}
    first = up(state, silent, base_image="debian:12", environment=environment)
    assert first.new
    assert not up(state, silent, base_image="debian:12", environment=environment).new
    down(state, silent)
    assert up(state, silent, base_image="debian:12", environment=environment).engine == first.engine


@pytest.mark.slow
def test_an_engine_that_others_still_use_is_not_stopped(docker_engine: Engine, client: docker.DockerClient) -> None:
    with borrowed(STATE, silent) as same:
        assert same == docker_engine
    assert client.ping()


@pytest.mark.slow
def test_pip_in_a_build_reaches_the_folders_that_pip_here_reaches(docker_engine: Engine) -> None:
    words = " ".join(
        value for name, value in docker_engine.build_args.items() if name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS")
    )
    for url in (word for word in words.split() if word.startswith("http://127.0.0.1:")):
        assert urllib.request.urlopen(url, timeout=5).status == 200
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"{url}../../../../../../etc/passwd", timeout=5)


def test_pip_options_of_the_environment_win() -> None:
    listing = "global.find-links='/wheels'\n:env:.find-links='/mine'\nglobal.extra-index-url='a b'\nuser.x='y'\n"
    assert pip_options(listing) == {"find-links": "/mine", "extra-index-url": "a b"}


def test_folders_become_addresses_and_the_rest_stays(tmp_path: Path) -> None:
    for name in ("index/simple", "wheels"):
        (tmp_path / name).mkdir(parents=True)
    options = {
        "index-url": "https://pypi.example.com/simple",
        "extra-index-url": f"file://{tmp_path}/index/simple https://other.example.com/simple",
        "find-links": f"{tmp_path}/wheels /nonexistent",
        "trusted-host": "pypi.example.com",
        "timeout": "5",
    }
    served = folders(options)
    assert served == (tmp_path / "index", tmp_path / "wheels")
    environment = {"HTTPS_PROXY": "http://proxy:3128", "HOME": "/root"}
    assert build_args(options, lambda folder: f"http://here/{served.index(folder)}", environment) == {
        "PIP_INDEX_URL": "https://pypi.example.com/simple",
        "PIP_EXTRA_INDEX_URL": "http://here/0/simple/ https://other.example.com/simple",
        "PIP_FIND_LINKS": "http://here/1/ /nonexistent",
        "PIP_TRUSTED_HOST": "pypi.example.com",
        "PIP_CERT": "/etc/ssl/certs/ca-certificates.crt",
        "HTTPS_PROXY": "http://proxy:3128",
    }


@pytest.mark.parametrize(
    ("name", "text", "mirror"),
    [
        ("sources.list", "deb http://deb.example.com/debian bookworm main\n", "http://deb.example.com/debian"),
        (
            "sources.list",
            "deb [arch=amd64] http://x.example.com/debian/ bookworm main\n",
            "http://x.example.com/debian/",
        ),
        ("sources.list.d/debian.sources", "Types: deb\nURIs: https://m/debian\n", "https://m/debian"),
        ("sources.list.d/node.sources", "Types: deb\nURIs: https://deb.example.com/node_20.x\n", DEFAULT_MIRROR),
        ("sources.list", "deb http://security.example.com/debian-security x main\n", DEFAULT_MIRROR),
    ],
)
def test_the_base_image_comes_from_the_mirror_of_apt(tmp_path: Path, name: str, text: str, mirror: str) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / name).write_text(text)
    assert mirror_of(tmp_path) == mirror
