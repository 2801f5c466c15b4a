"""Label and field selectors: text to predicate."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sandbox.apiserver.kinds import Kind, Object
from sandbox.apiserver.status import ApiError, bad_request

Predicate = Callable[[Object], bool]
"""Whether an object belongs to the selection."""

_TOKEN = re.compile(r"\s*(==|!=|=|!|\(|\)|,|<|>|[^\s=!(),<>]+)")
_SYMBOLS = frozenset({"==", "!=", "=", "!", "(", ")", ",", "<", ">"})


@dataclass(frozen=True)
class Requirement:
    """One term of a label selector. `operator` is one of in, notin, exists, absent, <, >."""

    key: str
    operator: str
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether the labels fulfil this term; a missing key fulfils `notin` and `absent` only."""
        value = labels.get(self.key)
        if self.operator == "absent":
            return value is None
        if self.operator == "notin":
            return value not in self.values
        if value is None:
            return False
        return self.operator == "exists" or self._compares(value)

    def _compares(self, value: str) -> bool:
        if self.operator == "in":
            return value in self.values
        bound = int(next(iter(self.values)))
        return value.lstrip("-").isdigit() and (int(value) > bound if self.operator == ">" else int(value) < bound)


def parse_labels(text: str) -> tuple[Requirement, ...]:
    """The terms of a label selector.

    Raises:
        ApiError: 400 when the text is not a label selector.
    """
    tokens = _Tokens(text)
    found: list[Requirement] = []
    while tokens.peek() is not None:
        found.append(_requirement(tokens))
        if tokens.peek() is not None:
            tokens.expect(",")
    return tuple(found)


class _Tokens:
    def __init__(self, text: str) -> None:
        self._tokens = _TOKEN.findall(text)
        self._next = 0

    def peek(self) -> str | None:
        return self._tokens[self._next] if self._next < len(self._tokens) else None

    def take(self) -> str | None:
        token = self.peek()
        self._next += 1
        return token

    def identifier(self) -> str:
        token = self.take()
        if token is None or token in _SYMBOLS:
            raise _unparsable(token, "identifier")
        return token

    def expect(self, symbol: str) -> None:
        token = self.take()
        if token != symbol:
            raise _unparsable(token, f"'{symbol}'")


def _unparsable(token: str | None, expected: str) -> ApiError:
    return bad_request(f"unable to parse requirement: found '{token or ''}', expected: {expected}")


def _requirement(tokens: _Tokens) -> Requirement:
    if tokens.peek() == "!":
        tokens.take()
        return Requirement(tokens.identifier(), "absent")
    key = tokens.identifier()
    operator = tokens.peek()
    if operator in (None, ","):
        return Requirement(key, "exists")
    tokens.take()
    if operator in ("in", "notin"):
        return Requirement(key, str(operator), frozenset(_value_list(tokens)))
    if operator in ("=", "==", "!="):
        value = "" if tokens.peek() in (None, ",") else tokens.identifier()
        return Requirement(key, "notin" if operator == "!=" else "in", frozenset({value}))
    if operator in ("<", ">"):
        return Requirement(key, str(operator), frozenset({_integer(tokens.identifier())}))
    raise _unparsable(operator, "in, notin, =, ==, !=, gt, lt")


def _integer(text: str) -> str:
    if not text.lstrip("-").isdigit():
        raise bad_request(f"for 'Gt', 'Lt' operators, the value must be an integer: {text}")
    return text


def _value_list(tokens: _Tokens) -> Iterator[str]:
    tokens.expect("(")
    while True:
        yield tokens.identifier()
        if tokens.peek() == ")":
            tokens.take()
            return
        tokens.expect(",")


def parse_fields(text: str, kind: Kind) -> tuple[tuple[str, str, bool], ...]:
    """The terms of a field selector as (path, value, wanted equal).

    Raises:
        ApiError: 400 when the text is not a field selector or names a field that the kind cannot be selected by.
    """
    terms: list[tuple[str, str, bool]] = []
    for part in filter(None, text.split(",")):
        match = re.fullmatch(r"([^=!]+)(==|!=|=)(.*)", part)
        if match is None:
            raise bad_request(f"invalid selector: '{text}'; can't understand '{part}'")
        path, operator, value = match.groups()
        if path not in ("metadata.name", "metadata.namespace", *kind.fields):
            raise bad_request(f"field label not supported: {path}")
        terms.append((path, value, operator != "!="))
    return tuple(terms)


def field_value(item: Object, path: str) -> str:
    """The value at a dotted path as text; missing is the empty string, as in a real API server."""
    value: object = item
    for step in path.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    return "" if value is None else str(value)


def selection(kind: Kind, namespace: str | None, labels: str, fields: str) -> Predicate:
    """The predicate of a list or watch request; empty texts select everything.

    Raises:
        ApiError: 400 when a selector cannot be parsed.
    """
    requirements = parse_labels(labels)
    terms = parse_fields(fields, kind)

    def selects(item: Object) -> bool:
        metadata = item["metadata"]
        if namespace is not None and metadata.get("namespace") != namespace:
            return False
        return _fulfils(metadata.get("labels") or {}, requirements) and _has_fields(item, terms)

    return selects


def _fulfils(labels: Mapping[str, str], requirements: Iterable[Requirement]) -> bool:
    return all(requirement.matches(labels) for requirement in requirements)


def _has_fields(item: Object, terms: Sequence[tuple[str, str, bool]]) -> bool:
    return all((field_value(item, path) == value) is wanted for path, value, wanted in terms)


def label_selector_text(selector: Mapping[str, object]) -> str:
    """A LabelSelector object as text, as the scale subresource and the printer columns show it; sorted by key."""
    labels = selector.get("matchLabels")
    pairs = labels if isinstance(labels, dict) else {}
    return ",".join(f"{key}={value}" for key, value in sorted(pairs.items()))
