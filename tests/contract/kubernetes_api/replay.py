"""Replays recorded requests against a server, in their order, and says how the answers differ.

What belongs to one run alone (uids, times, resourceVersions, hashes, addresses) is translated in the requests and left
out of the comparison.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import httpx

Case = dict[str, Any]
Answer = dict[str, Any]

_OWN_KEYS = frozenset(
    {
        "uid",
        "resourceVersion",
        "continue",
        "clusterIP",
        "clusterIPs",
        "nodeName",
        "addresses",
        "serverAddress",
        "storageVersionHash",
        "pod-template-hash",
    }
)
_LEFT_OUT_KEYS = frozenset({"managedFields"})
_OWN_TEXT = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "UID"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"), "TIME"),
    (re.compile(r"\b(m|ap|never)-[a-z0-9]{8,10}\b"), r"\1-HASH"),
    (re.compile(r"HASH-[a-z0-9]{5}\b"), "HASH-POD"),
    (re.compile(r"\b(gen|ap)-[a-z0-9]{5}\b"), r"\1-RANDOM"),
    (re.compile(r"^\d+s$"), "AGE"),
    (re.compile(r"\b10\.\d+\.\d+\.\d+\b|\b127\.\d+\.\d+\.\d+\b"), "ADDRESS"),
)


def load(path: Path) -> list[Case]:
    """The recorded cases in their order."""
    return [json.loads(line) for line in path.read_text().splitlines()]


@dataclass
class Replay:
    """One run: sends requests, and learns which value of this run stands for which recorded one."""

    client: httpx.Client
    own: dict[str, str] = field(default_factory=dict)

    def send(self, case: Case, meanwhile: Callable[[], None] = lambda: None) -> Answer:
        """Send the case's request and return status, content type, warning, and body, text or events.

        `meanwhile` runs when the answer has begun: what a watch is to see.
        """
        request = case["request"]
        headers = {"accept": request.get("accept", "application/json")}
        if "token" in request:
            headers["authorization"] = f"Bearer {request['token']}"
        body = request.get("body")
        if "content_type" in request:
            headers["content-type"] = request["content_type"]
        content = body if isinstance(body, str) else json.dumps(self._translated(body))
        with self.client.stream(
            request["method"],
            self._path(request["path"]),
            headers=headers,
            content=content if body is not None else None,
        ) as response:
            meanwhile()
            answer = _answer(response, case["response"])
        self.learn(case["response"].get("body"), answer.get("body"))
        return answer

    def _path(self, path: str) -> str:
        where, question, query = path.partition("?")
        if not question:
            return where
        pairs = [(key, self.own.get(value, value)) for key, value in parse_qsl(query, keep_blank_values=True)]
        return f"{where}?{urlencode(pairs)}"

    def _translated(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._translated(element) for key, element in value.items()}
        if isinstance(value, list):
            return [self._translated(element) for element in value]
        return self.own.get(value, value) if isinstance(value, str) else value

    def learn(self, recorded: Any, answered: Any) -> None:
        """Note the values of this run that stand where the recorded ones stood."""
        if isinstance(recorded, dict) and isinstance(answered, dict):
            for key in recorded.keys() & answered.keys():
                if key in ("uid", "resourceVersion", "continue") and recorded[key]:
                    self.own[recorded[key]] = answered[key]
                self.learn(recorded[key], answered[key])
        elif isinstance(recorded, list) and isinstance(answered, list):
            for before, now in zip(recorded, answered, strict=False):
                self.learn(before, now)


def _answer(response: httpx.Response, recorded: Answer) -> Answer:
    response.read()
    answer: Answer = {"status": response.status_code, "content_type": response.headers.get("content-type")}
    if "warning" in response.headers:
        answer["warning"] = response.headers["warning"]
    if "events" in recorded:
        answer["events"] = [json.loads(line) for line in response.text.splitlines()]
    elif "body" in recorded:
        answer["body"] = response.json()
    else:
        answer["text"] = response.text
    return answer


def differences(recorded: Any, answered: Any, path: str = "") -> Iterator[str]:
    """Where the two differ, apart from what belongs to one run alone."""
    if isinstance(recorded, dict) and isinstance(answered, dict):
        yield from _object_differences(recorded, answered, path)
    elif isinstance(recorded, list) and isinstance(answered, list):
        if len(recorded) != len(answered):
            yield f"{path}: {len(recorded)} elements recorded, {len(answered)} answered"
        for index, (before, now) in enumerate(zip(recorded, answered, strict=False)):
            yield from differences(before, now, f"{path}[{index}]")
    elif type(recorded) is not type(answered) or neutral(recorded) != neutral(answered):
        yield f"{path}: recorded {recorded!r}, answered {answered!r}"


def _object_differences(recorded: Mapping[str, Any], answered: Mapping[str, Any], path: str) -> Iterator[str]:
    keys = recorded.keys() - _LEFT_OUT_KEYS
    for key in sorted(keys - answered.keys()):
        yield f"{path}.{key}: recorded {recorded[key]!r}, missing in the answer"
    for key in sorted(answered.keys() - keys):
        yield f"{path}.{key}: not recorded, answered {answered[key]!r}"
    for key in sorted(keys & answered.keys()):
        if key not in _OWN_KEYS:
            yield from differences(recorded[key], answered[key], f"{path}.{key}")
        elif type(recorded[key]) is not type(answered[key]):
            yield f"{path}.{key}: another type"


def neutral(value: Any) -> Any:
    """A value without what belongs to one run: texts with uids, times, hashes, addresses replaced by their names."""
    if not isinstance(value, str):
        return value
    for pattern, name in _OWN_TEXT:
        value = pattern.sub(name, value)
    return value


def without(paths: tuple[str, ...], value: Any, path: str = "") -> Any:
    """The value without the members at these paths (`.metadata.labels`; `[]` stands for every element)."""
    if isinstance(value, dict):
        return {key: without(paths, one, f"{path}.{key}") for key, one in value.items() if f"{path}.{key}" not in paths}
    if isinstance(value, list):
        return [without(paths, one, f"{path}[]") for one in value]
    return value
