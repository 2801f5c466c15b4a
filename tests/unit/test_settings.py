"""Where the world is, from SLUICE_* variables."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from sluice import settings
from sluice.errors import BadInput


def test_without_variables_the_defaults_hold() -> None:
    chosen = settings.read({})
    assert (chosen.releases.name, chosen.bundles.name, Path(chosen.ledger).name) == ("releases", "bundles", "ledger")
    assert chosen.kubeconfig is None
    assert chosen.metrics_urls == ()


def test_the_defaults_do_not_depend_on_the_working_directory() -> None:
    chosen = settings.read({})
    assert all(path.is_absolute() for path in (chosen.releases, chosen.bundles, chosen.workload, Path(chosen.ledger)))
    assert chosen.workload.is_relative_to(chosen.root)


def test_each_variable_sets_its_field() -> None:
    chosen = settings.read({"SLUICE_KUBECONFIG": "/etc/kubeconfig", "SLUICE_GATEWAY_URL": "https://gate", "HOME": "/"})
    assert (chosen.kubeconfig, chosen.gateway_url) == (Path("/etc/kubeconfig"), "https://gate")


def test_several_addresses_of_metrics_are_separated_by_commas() -> None:
    chosen = settings.read({"SLUICE_METRICS_URLS": "http://a/metrics, http://b/metrics,"})
    assert chosen.metrics_urls == ("http://a/metrics", "http://b/metrics")


def test_build_arguments_are_pairs_separated_by_commas() -> None:
    chosen = settings.read({"SLUICE_BUILD_ARGS": "PIP_INDEX_URL=https://a/simple?b=c, TORCH=cpu"})
    assert chosen.build_args == {"PIP_INDEX_URL": "https://a/simple?b=c", "TORCH": "cpu"}
    with pytest.raises(BadInput, match=r"SLUICE_BUILD_ARGS: .*'TORCH' is not NAME=value"):
        settings.read({"SLUICE_BUILD_ARGS": "TORCH"})


def test_the_engine_is_the_one_that_docker_uses_unless_sluice_has_its_own() -> None:
    own, dockers = {"SLUICE_DOCKER_HOST": "tcp://own:2376"}, {"DOCKER_HOST": "tcp://shared:2376"}
    assert settings.read({}).docker_host == "unix:///var/run/docker.sock"
    assert settings.read(dockers).docker_host == "tcp://shared:2376"
    assert settings.read(dockers | own).docker_host == "tcp://own:2376"


def test_keys_and_passwords_are_not_shown() -> None:
    secrets = {"SLUICE_ENDPOINT_KEY": "s3", "SLUICE_REGISTRY_PASSWORD": "s3", "SLUICE_JUDGE_KEY": "s3"}
    assert "s3" not in repr(settings.read(secrets))


@pytest.mark.parametrize("key", ["ключ", "two\nlines"])
def test_a_key_that_no_header_can_carry_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(BadInput, match=r"SLUICE_JUDGE_KEY: .*copy it anew") as caught:
        settings.read({"SLUICE_JUDGE_KEY": key})
    assert key not in "".join(traceback.format_exception(caught.value))


def test_the_scrape_interval_is_a_duration_of_some_length() -> None:
    assert settings.read({"SLUICE_PROMETHEUS_INTERVAL": "15s"}).prometheus_interval.total_seconds() == 15
    for wrong in ("15", "0s"):
        with pytest.raises(BadInput, match="SLUICE_PROMETHEUS_INTERVAL: "):
            settings.read({"SLUICE_PROMETHEUS_INTERVAL": wrong})


def test_an_empty_variable_is_an_unset_one() -> None:
    assert settings.read({"SLUICE_KUBECONFIG": "", "SLUICE_LEDGER": ""}) == settings.read({})


def test_variables_of_other_parts_are_left_alone() -> None:
    assert settings.read({"SLUICE_SOMETHING_ELSE": "1"}) == settings.read({})


def test_policies_paths_start_at_the_parent_of_releases(tmp_path: Path) -> None:
    assert settings.read({"SLUICE_RELEASES": str(tmp_path / "releases")}).root == tmp_path.resolve()


def test_a_wrong_value_names_its_variable() -> None:
    with pytest.raises(BadInput, match="SLUICE_LEDGER: "):
        settings.read({"SLUICE_LEDGER": b"bytes\xff"})  # type: ignore[dict-item]
