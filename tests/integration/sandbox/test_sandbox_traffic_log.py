"""What the gateway tells of the traffic: access log and metrics."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from live_sandbox import NAMESPACE, SERVICE, LiveSandbox, destination, primary, until

from sandbox.gateway.access_log import AccessLog
from sandbox.gateway.traffic import REQUEST_LABELS

pytestmark = pytest.mark.slow


def test_an_attempt_is_logged_when_it_starts(routed: LiveSandbox) -> None:
    asking = threading.Thread(target=routed.gateway.get, args=("/stream",), kwargs={"headers": {"x-request-id": "s1"}})
    asking.start()
    [start] = routed.until_logged("s1", "attempt_started")
    running = routed.metric("envoy_cluster_upstream_rq_active", destination_version="one")
    assert [entry["type"] for entry in routed.log_entries("s1")] == ["attempt_started"]
    asking.join()
    routed.until_logged("s1")
    assert running == 1
    assert start["destination_version"] == "one"
    assert {entry["type"] for entry in routed.log_entries("s1")} == {"attempt_started", "attempt_ended", "request"}
    assert routed.metric("envoy_cluster_upstream_rq_active", destination_version="one") == 0


def test_an_entry_tells_the_whole_story(routed: LiveSandbox) -> None:
    routed.gateway.get("/status/404?q=1", headers={"x-request-id": "story", "x-sluice-probe": "token"})
    [entry] = routed.until_logged("story")
    assert entry["upstream_host"].endswith(":8000")
    assert entry["start_time"].endswith("Z")
    assert entry["duration_ms"] >= entry["response_duration_ms"] >= 0
    told = {key: entry[key] for key in ("method", "path", "route_name", "traffic", "probe", "response_code")}
    assert told == {
        "method": "GET",
        "path": "/status/404?q=1",
        "route_name": "primary",
        "traffic": "synthetic",
        "probe": "token",
        "response_code": 404,
    }
    assert entry["upstream_cluster"] == f"outbound|80|v-one|{SERVICE}"
    assert (entry["destination_version"], entry["destination_workload"]) == ("one", "arithmetic-one")


def test_a_request_without_an_id_gets_one_and_the_callers_is_kept(routed: LiveSandbox) -> None:
    generated = routed.gateway.get("/").json()["headers"]["x-request-id"]
    kept = routed.gateway.get("/", headers={"x-request-id": "callers own"}).json()["headers"]["x-request-id"]
    assert len(generated) == 36
    assert kept == "callers own"


def test_requests_are_counted_under_istios_names(routed: LiveSandbox) -> None:
    labels = {
        "destination_service": SERVICE,
        "destination_service_name": "arithmetic",
        "destination_workload": "arithmetic-one",
        "destination_version": "one",
        "response_code": "418",
        "response_flags": "-",
        "traffic": "user",
    }
    before = routed.metric("istio_requests_total", **labels)
    routed.gateway.get("/status/418")
    until(lambda: routed.metric("istio_requests_total", **labels) == before + 2, "both reporters count")
    for reporter in ("source", "destination"):
        assert routed.metric("istio_requests_total", reporter=reporter, **labels) >= 1
        assert routed.metric("istio_request_duration_milliseconds_count", reporter=reporter, **labels) >= 1
    sample = next(s for s in routed.samples() if s.name == "istio_requests_total")
    assert set(sample.labels) == set(REQUEST_LABELS)


def test_a_retry_hides_an_attempt_from_users_but_not_from_the_counts(routed: LiveSandbox) -> None:
    retries = {"attempts": 1, "retryOn": "retriable-status-codes,503"}
    routed.route({"name": "retried", "retries": retries, "route": [destination("one")]}, primary(one=100))
    failing = {"response_code": "503", "destination_version": "one"}
    until(lambda: _ask(routed, "/") == "retried", "the route is in use")
    attempts = routed.metric("envoy_cluster_upstream_rq_total", destination_version="one")
    got = routed.metric("istio_requests_total", reporter="source", **failing)
    reached = routed.metric("istio_requests_total", reporter="destination", **failing)
    routed.gateway.get("/status/503", headers={"x-request-id": "retried"})
    routed.until_logged("retried", "attempt_ended", count=2)
    routed.until_logged("retried")
    assert routed.metric("istio_requests_total", reporter="source", **failing) == got + 1
    assert routed.metric("istio_requests_total", reporter="destination", **failing) == reached + 2
    assert routed.metric("envoy_cluster_upstream_rq_total", destination_version="one") == attempts + 2


def _ask(sandbox: LiveSandbox, path: str) -> str:
    """The name of the route that a request takes."""
    sent = sandbox.gateway.get(path).json()["headers"]["x-request-id"]
    return str(sandbox.until_logged(sent)[0]["route_name"])


def test_a_failed_connection_is_a_start_that_reached_no_destination(sandbox: LiveSandbox, routed: LiveSandbox) -> None:
    """A pod without probes counts as ready; this one does not listen on the service's port."""
    env = [{"name": "HOST", "value": "127.0.0.1"}, {"name": "PORT", "value": "0"}]
    container = {"name": "server", "image": sandbox.image, "env": env}
    sandbox.create_pod("deaf", labels={"app": "arithmetic", "version": "deaf"}, containers=[container])
    sandbox.until_ready("deaf")
    sandbox.subsets("one", "two", "deaf")
    sandbox.weights(deaf=100)
    sandbox.until_served("503")

    def flags() -> str:
        sandbox.gateway.get("/", headers={"x-request-id": "deaf"})
        return str(sandbox.until_logged("deaf")[-1]["response_flags"])

    until(lambda: "UF" in flags(), "the connection is refused")
    assert len(sandbox.until_logged("deaf", "attempt_started")) >= 2
    assert sandbox.metric("envoy_cluster_upstream_rq_total", destination_version="deaf") >= 2
    assert sandbox.metric("istio_requests_total", reporter="destination", destination_version="deaf") == 0
    sandbox.delete_pod("deaf")


def test_pods_metrics_are_federated_with_their_labels(versions: LiveSandbox) -> None:
    text = versions.api.get(versions.described["federate_url"]).text
    lines = [line for line in text.splitlines() if line.startswith("answers_total{")]
    assert len(lines) == 3
    for line in lines:
        assert 'exported_pod="mine"' in line
        assert f'namespace="{NAMESPACE}"' in line
        assert 'app="arithmetic"' in line
    assert sum('version="two"' in line for line in lines) == 2
    assert text.count("# TYPE answers_total counter") == 1
    assert sum(line.startswith("up{") and line.endswith(" 1.0") for line in text.splitlines()) == 3


def test_the_access_log_is_bounded(tmp_path: Path) -> None:
    log = AccessLog(tmp_path / "access.log", max_bytes=100)
    for number in range(20):
        log.write([{"number": number}])
    log.close()
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert len(sizes) == 2
    assert max(sizes) < 130
    assert '{"number":19}' in "".join(path.read_text() for path in tmp_path.iterdir())
