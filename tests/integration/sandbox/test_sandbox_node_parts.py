"""The node's decisions, without a process."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest

from sandbox.node.addresses import Addresses
from sandbox.node.bundles import find_bundle
from sandbox.node.container import BackOff
from sandbox.node.errors import ContainerConfigError, ImageError
from sandbox.node.federation import Scrape, Target, exposition
from sandbox.node.launch import expand, field_value
from sandbox.node.probes import Probe, Streak, probe_of, verdicts
from sandbox.node.status import ContainerState, Running, Terminated, Waiting, pod_phase, pod_status

STARTED = "2026-01-01T00:00:00Z"
LOST = Terminated(3, "Error", STARTED, STARTED)


def state(
    current: Waiting | Running | Terminated, last: Terminated | None = None, *, ready: bool = False
) -> ContainerState:
    return ContainerState("server", "image", current, last, ready=ready)


@pytest.mark.parametrize(
    ("container", "policy", "phase"),
    [
        (state(Waiting("ContainerCreating")), "Always", "Pending"),
        (state(Running(STARTED)), "Always", "Running"),
        (state(Waiting("CrashLoopBackOff"), LOST), "Always", "Running"),
        (state(LOST), "Always", "Running"),
        (state(LOST), "Never", "Failed"),
        (state(Terminated(0, "Completed", STARTED, STARTED)), "OnFailure", "Succeeded"),
    ],
)
def test_phases(container: ContainerState, policy: str, phase: str) -> None:
    assert pod_phase([container], policy) == phase


def status(container: ContainerState, now: str, previous: dict[str, Any]) -> dict[str, Any]:
    return pod_status(
        [container], restart_policy="Always", ip="127.64.0.1", start_time=STARTED, now=now, previous=previous
    )


def test_a_condition_keeps_its_transition_time_while_it_stays() -> None:
    first = status(state(Running(STARTED)), "10:00", {})
    second = status(state(Running(STARTED), ready=True), "10:01", first)
    times = {condition["type"]: condition["lastTransitionTime"] for condition in second["conditions"]}
    assert (times["Initialized"], times["Ready"]) == ("10:00", "10:01")


def test_an_unready_container_is_named() -> None:
    [ready] = [c for c in status(state(Running(STARTED)), "", {})["conditions"] if c["type"] == "Ready"]
    assert (ready["status"], ready["reason"]) == ("False", "ContainersNotReady")
    assert "[server]" in ready["message"]


def test_a_verdict_needs_its_threshold() -> None:
    probe = Probe("", success_threshold=2, failure_threshold=3)
    streak, seen = Streak(), []
    for result in (True, False, True, True, False, False, True, False, False, False):
        streak = streak.after(result, probe)
        seen.append(streak.verdict)
    assert seen == [None, None, None, True, True, True, True, True, True, False]


async def test_a_success_is_seen_before_the_next_period() -> None:
    results = iter([False, False, True])

    async def check(probe: Probe) -> bool:
        return next(results)

    async for verdict in verdicts(Probe("", period_seconds=60, failure_threshold=2), check):
        assert verdict is True
        break


def test_a_probe_finds_its_named_port() -> None:
    container = {
        "name": "server",
        "ports": [{"name": "http", "containerPort": 8000}],
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "http"}, "periodSeconds": 1},
    }
    probe = probe_of(container, "readinessProbe", "127.64.0.1")
    assert probe == Probe("http://127.64.0.1:8000/readyz", period_seconds=1)
    assert probe_of(container, "livenessProbe", "127.64.0.1") is None


def test_a_probe_that_the_node_cannot_make_is_refused() -> None:
    with pytest.raises(ContainerConfigError, match="only httpGet"):
        probe_of({"name": "server", "livenessProbe": {"exec": {}}}, "livenessProbe", "")
    with pytest.raises(ContainerConfigError, match="no port named http"):
        probe_of({"name": "server", "livenessProbe": {"httpGet": {"port": "http"}}}, "livenessProbe", "")


def test_back_off_doubles_up_to_its_cap() -> None:
    back_off = BackOff(base_seconds=1, cap_seconds=5)
    assert [back_off.delay_seconds(crashes) for crashes in range(1, 7)] == [0, 1, 2, 4, 5, 5]
    assert back_off.starts_over(11)
    assert not back_off.starts_over(9)


def test_variables_are_expanded_as_kubernetes_does() -> None:
    assert expand("$(A)/$(B)/$$(A)/$A", {"A": "1"}) == "1/$(B)/$(A)/$A"


def test_the_downward_api() -> None:
    labels = {"app.kubernetes.io/name": "x"}
    pod = {"metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": labels}, "spec": {}}
    assert field_value(pod, "metadata.labels['app.kubernetes.io/name']", "") == "x"
    assert field_value(pod, "metadata.annotations['none']", "") == ""
    assert field_value(pod, "status.podIP", "127.64.0.1") == "127.64.0.1"
    with pytest.raises(ContainerConfigError, match=r"spec\.nothing"):
        field_value(pod, "spec.nothing", "")


def test_addresses_go_on_after_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "next"
    pool = Addresses(file, Random(1))
    taken = [pool.take() for _ in range(600)]
    taken += [Addresses(file, Random(1)).take() for _ in range(3)]
    assert len(set(taken)) == len(taken)
    assert not any(address.endswith((".0", ".255")) for address in taken)


def test_an_image_without_a_digest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"repository/model:latest.*by digest"):
        find_bundle(tmp_path, "repository/model:latest")


def test_a_broken_bundle_is_named(tmp_path: Path) -> None:
    digest = "b" * 64
    (tmp_path / digest).mkdir()
    (tmp_path / digest / "bundle.json").write_text("{}")
    with pytest.raises(ImageError, match=r"bundle\.json is not a bundle description: KeyError\('entrypoint'\)"):
        find_bundle(tmp_path, f"repository/model@sha256:{digest}")


def scrape(pod: str, text: str | None) -> Scrape:
    return Scrape(Target("", {"namespace": "ai", "pod": pod, "version": "1"}), text)


def test_federation_merges_families_and_labels_them() -> None:
    text = exposition(
        [scrape("a", "# TYPE n_total counter\nn_total 1\n"), scrape("b", "# TYPE n_total counter\nn_total 2\n")]
    )
    lines = text.decode().splitlines()
    assert lines.count("# TYPE n_total counter") == 1
    assert [line for line in lines if line.startswith("n_total{")] == [
        'n_total{namespace="ai",pod="a",version="1"} 1.0',
        'n_total{namespace="ai",pod="b",version="1"} 2.0',
    ]


def test_the_targets_labels_win() -> None:
    lines = exposition([scrape("a", 'n{version="own",x="y"} 1\n')]).decode().splitlines()
    assert 'n{exported_version="own",namespace="ai",pod="a",version="1",x="y"} 1.0' in lines


@pytest.mark.parametrize("text", [None, "n{ 1\n"], ids=["no answer", "no exposition"])
def test_a_target_that_cannot_be_scraped_is_down(text: str | None) -> None:
    lines = exposition([scrape("a", text), scrape("b", "n 1\n")]).decode().splitlines()
    assert 'up{namespace="ai",pod="a",version="1"} 0.0' in lines
    assert 'up{namespace="ai",pod="b",version="1"} 1.0' in lines
