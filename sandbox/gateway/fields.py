"""Reading an object field by field, so that what nobody read is reported by its path instead of being lost silently."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

from sandbox.gateway.durations import envoy_duration


class Fields:
    """One mapping of an object; on leaving the `with` block, fields that were not taken are noted as unknown.

    `unknown` collects lines such as `VirtualService ns/name: spec.http[0].corsPolicy`.
    """

    def __init__(self, value: Mapping[str, Any] | None, path: str, unknown: list[str]) -> None:
        self._left = dict(value or {})
        self._unknown = unknown
        self.path = path

    def take(self, key: str, default: Any = None) -> Any:
        value = self._left.pop(key, None)
        return default if value is None else value

    def take_duration(self, key: str, default: str | None = None) -> str | None:
        """As protobuf's JSON form has it; a text that is no duration is noted, and the default taken."""
        text = self.take(key)
        try:
            return envoy_duration(text) if text else default
        except ValueError as error:
            self.note(key, str(error))
            return default

    def child(self, key: str) -> Fields:
        return Fields(self.take(key), self._join(key), self._unknown)

    def children(self, key: str) -> list[Fields]:
        items = self.take(key, [])
        return [Fields(item, f"{self._join(key)}[{index}]", self._unknown) for index, item in enumerate(items)]

    def note(self, key: str, why: str = "") -> None:
        self._unknown.append(self._join(key) + (f" ({why})" if why else ""))

    def __contains__(self, key: str) -> bool:
        return self._left.get(key) is not None

    def rest(self) -> list[str]:
        """The names of the fields not taken yet."""
        return sorted(self._left)

    def _join(self, key: str) -> str:
        return f"{self.path}.{key}"

    def __enter__(self) -> Fields:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            for key in self.rest():
                self.note(key)
            self._left.clear()
