"""How a request ended, as the mesh's proxies tell it: one series of `istio_requests_total`."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client.samples import Sample

CLIENT_GONE = frozenset({"DC", "DR"})
"""Envoy's response flags for a user who left before the answer's end: no answer, and nobody's failure."""
BROKEN = frozenset({"UH", "UF", "UO", "NC", "UR", "UC", "UT", "LR", "URX", "SI", "UPE", "DPE", "UMSDR", "OM", "DF"})
"""Response flags of an answer that broke or never came, whatever its code says (a broken stream keeps its 200)."""
OVERLOADED = frozenset({408, 429})
"""Codes below 500 that are the server's failure all the same: too slow, or no room. Other 4xx are the client's."""
NEVER_REACHED = frozenset({"UF", "UH", "NC", "UO"})
"""Response flags of a failure before any pod saw the request: no destination reports it."""


@dataclass(frozen=True)
class Outcome:
    """How many requests ended like this."""

    reporter: str
    code: int
    flags: frozenset[str]
    count: int

    @classmethod
    def of(cls, sample: Sample) -> Outcome:
        code = sample.labels.get("response_code", "0")
        flags = frozenset(sample.labels.get("response_flags", "-").split(","))
        return cls(sample.labels.get("reporter", ""), int(code) if code.isdigit() else 0, flags, int(sample.value))

    @property
    def client_gone(self) -> bool:
        return bool(self.flags & CLIENT_GONE) and self.code < 500

    @property
    def never_reached(self) -> bool:
        return bool(self.flags & NEVER_REACHED)

    @property
    def failed(self) -> bool:
        if self.code >= 500:
            return True
        if self.code in OVERLOADED:
            return True
        refused = 400 <= self.code < 500
        return not refused and not self.client_gone and (self.code == 0 or bool(self.flags & BROKEN))
