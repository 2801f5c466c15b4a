"""Requests through the real gateway: where they go, how fast a write takes hold, and that none is lost."""

from __future__ import annotations

import math
import statistics
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import httpx
import pytest
from live_sandbox import HOST, SERVICE, LiveSandbox, destination, primary, until
from prometheus_client.parser import text_string_to_metric_families

pytestmark = pytest.mark.slow

SWITCH_LIMIT_SECONDS = 0.1


def test_a_subset_without_endpoints_answers_503(routed: LiveSandbox) -> None:
    routed.weights(none=100)
    routed.until_served("503")
    answer = routed.gateway.get("/", headers={"x-request-id": "no-endpoints"})
    [entry] = routed.until_logged("no-endpoints")
    assert (answer.status_code, entry["response_flags"], entry["destination_version"]) == (503, "UH", "none")


def test_a_subset_that_does_not_exist_answers_503(routed: LiveSandbox) -> None:
    routed.weights(unheard=100)
    routed.until_served("503")
    routed.gateway.get("/", headers={"x-request-id": "no-cluster"})
    [entry] = routed.until_logged("no-cluster")
    assert (entry["response_flags"], entry["destination_service"]) == ("NC", SERVICE)


def test_another_host_is_not_found(routed: LiveSandbox) -> None:
    assert routed.gateway.get("/", headers={"Host": "other.example.com"}).status_code == 404
    assert routed.gateway.get("/", headers={"Host": f"{HOST}:80"}).status_code == 200


@pytest.mark.parametrize("weight", [10, 50])
def test_weights_are_observed(routed: LiveSandbox, weight: int) -> None:
    requests = 500
    routed.weights(one=100 - weight, two=weight)
    until(lambda: routed.version() == "two", "both versions answer")
    answered = sum(routed.version() == "two" for _ in range(requests))
    four_deviations = 4 * math.sqrt(requests * weight / 100 * (1 - weight / 100))
    assert abs(answered - requests * weight / 100) < four_deviations


def test_a_header_selects_before_the_weights_do(routed: LiveSandbox) -> None:
    match = [{"headers": {"x-sluice-probe": {"exact": "canary-token"}}}]
    routed.route({**primary(two=100), "name": "sluice-canary", "match": match}, primary(one=100))
    until(lambda: routed.version(x_sluice_probe="canary-token") == "two", "the header route answers")
    assert {routed.version() for _ in range(20)} == {"one"}
    assert {routed.version(x_sluice_probe="canary-token") for _ in range(20)} == {"two"}
    assert routed.version(x_sluice_probe="another-token") == "one"


def test_a_write_takes_hold_within_a_tenth_of_a_second(routed: LiveSandbox) -> None:
    """From the API server's answer to the first request that the new version answers."""
    latencies = []
    for version in ("two", "one") * 5:
        routed.weights(**{version: 100})
        written = time.monotonic()
        routed.until_served(version)
        latencies.append(time.monotonic() - written)
    assert statistics.median(latencies) < SWITCH_LIMIT_SECONDS, latencies


def test_a_new_subset_and_its_route_written_at_once_lose_no_request(routed: LiveSandbox) -> None:
    """The route must not be used before its cluster is there, nor the cluster taken before the route is gone."""
    statuses: list[int] = []
    stop = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=routed.described["gateway_url"], headers={"Host": HOST}) as client:
            while not stop.is_set():
                statuses.append(client.get("/").status_code)

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        for _ in range(4):
            routed.subsets("one", "two")
            routed.weights(two=100)
            routed.until_served("two")
            routed.weights(one=100)
            routed.until_served("one")
            routed.subsets("one")
        stop.set()
        asking.result()
    assert len(statuses) > 20
    assert set(statuses) == {200}


def _stream(sandbox: LiveSandbox) -> list[str]:
    with sandbox.gateway.stream("GET", "/stream") as answer:
        return list(answer.iter_lines())


def _streams(sandbox: LiveSandbox, pool: ThreadPoolExecutor, count: int) -> list[Future[list[str]]]:
    """So many streams, all of them known to have begun at version two."""
    before = sandbox.metric("envoy_cluster_upstream_rq_active", destination_version="two")
    streams = [pool.submit(_stream, sandbox) for _ in range(count)]
    active = "envoy_cluster_upstream_rq_active"
    until(lambda: sandbox.metric(active, destination_version="two") == before + count, "the streams run")
    return streams


def test_streams_survive_a_change_of_weights_and_the_loss_of_their_subset(routed: LiveSandbox) -> None:
    routed.weights(two=100)
    routed.until_served("two")
    with ThreadPoolExecutor(5) as pool:
        streams = _streams(routed, pool, 5)
        routed.weights(one=100)
        routed.until_served("one")
        routed.subsets("one")
        assert [stream.result() for stream in streams] == [[f"two {number}" for number in range(20)]] * 5


def test_streams_survive_the_removal_of_their_endpoint(sandbox: LiveSandbox, routed: LiveSandbox) -> None:
    labels = {"app": "arithmetic", "version": "leaving"}
    sandbox.create_pod("leaving", labels=labels, env={"END_SECONDS": "2"})
    sandbox.until_ready("leaving")
    sandbox.subsets("one", "two", "leaving")
    sandbox.weights(leaving=100)
    sandbox.until_served("leaving")
    with ThreadPoolExecutor(1) as pool:
        stream = pool.submit(_stream, sandbox)
        until(lambda: sandbox.metric("envoy_cluster_upstream_rq_active", destination_version="leaving"), "it runs")
        sandbox.delete_pod("leaving")
        sandbox.until_served("503")
        assert stream.result() == [f"leaving {number}" for number in range(20)]
    until(lambda: sandbox.pod("leaving") is None, "the pod is removed")


def test_rewrite_and_headers(routed: LiveSandbox) -> None:
    headers = {
        "request": {"set": {"x-set": "100%"}, "remove": ["x-drop"]},
        "response": {"add": {"x-route": "special"}},
    }
    special = {
        "match": [{"uri": {"prefix": "/special"}}],
        "rewrite": {"uri": "/plain"},
        "headers": headers,
        "route": [destination("one", headers={"response": {"add": {"x-destination": "one"}}})],
    }
    routed.route(special, primary(one=100))
    ask = {"x-drop": "1"}
    until(lambda: "x-route" in routed.gateway.get("/special", headers=ask).headers, "the route answers")
    answer = routed.gateway.get("/special/path?q=1", headers=ask)
    seen = answer.json()
    assert seen["path"] == "/plain/path?q=1"
    assert (seen["headers"]["x-set"], "x-drop" in seen["headers"]) == ("100%", False)
    assert (answer.headers["x-route"], answer.headers["x-destination"]) == ("special", "one")


def test_faults_direct_responses_and_redirects(routed: LiveSandbox) -> None:
    def at(path: str, **action: object) -> dict[str, object]:
        return {"match": [{"uri": {"exact": path}}], **action}

    routed.route(
        at("/aborted", fault={"abort": {"httpStatus": 418, "percentage": {"value": 100}}}, route=[destination("one")]),
        at(
            "/delayed",
            fault={"delay": {"fixedDelay": "300ms", "percentage": {"value": 100}}},
            route=[destination("one")],
        ),
        at("/direct", directResponse={"status": 451, "body": {"string": "no"}}),
        at("/moved", redirect={"uri": "/new", "redirectCode": 307}),
        at("/short", timeout="0.2s", route=[destination("one")], rewrite={"uri": "/stream"}),
        primary(one=100),
    )
    until(lambda: routed.gateway.get("/aborted").status_code == 418, "the fault is injected")
    assert routed.gateway.get("/delayed").elapsed.total_seconds() >= 0.29  # the delay is 300 ms by Envoy’s own timer
    assert (routed.gateway.get("/direct").status_code, routed.gateway.get("/direct").text) == (451, "no")
    assert routed.gateway.get("/moved").headers["location"].endswith("/new")
    with pytest.raises(httpx.RemoteProtocolError):
        routed.gateway.get("/short")


def _answers(sandbox: LiveSandbox, version: str) -> float:
    """How many requests the pods of a version have answered, by their own count."""
    families = text_string_to_metric_families(httpx.get(sandbox.described["federate_url"]).text)
    samples = [sample for family in families for sample in family.samples if sample.name == "answers_total"]
    return sum(float(sample.value) for sample in samples if sample.labels["version"] == version)


def test_a_mirror_gets_a_copy_and_does_not_answer(routed: LiveSandbox) -> None:
    before = _answers(routed, "two")
    shadow = {**primary(one=100), "mirror": {"host": SERVICE, "subset": "v-two"}, "mirrorPercentage": {"value": 100}}
    routed.route(shadow)
    until(lambda: routed.version() == "one" and _answers(routed, "two") > before, "copies arrive")
    before = _answers(routed, "two")
    assert {routed.version() for _ in range(10)} == {"one"}
    until(lambda: _answers(routed, "two") == before + 10, "each request is copied once")


def test_a_route_that_envoy_refuses_changes_nothing_and_is_reported(routed: LiveSandbox) -> None:
    log = routed.state / "logs" / "gateway.log"
    before = log.read_text().count("did not take the new one")
    routed.route({**primary(two=100), "match": [{"uri": {"regex": "(unclosed"}}]}, primary(two=100))
    until(lambda: log.read_text().count("did not take the new one") > before, "the refusal is reported")
    assert routed.version() == "one"
    routed.weights(two=100)
    routed.until_served("two")


def test_what_the_gateway_does_not_know_is_in_its_log(routed: LiveSandbox) -> None:
    routed.route({**primary(one=100), "corsPolicy": {"maxAge": "24h"}})
    log = routed.state / "logs" / "gateway.log"
    line = "left out: VirtualService ai-inference/arithmetic: spec.http[0].corsPolicy"
    until(lambda: line in log.read_text(), "the field is reported")
    assert routed.version() == "one"
