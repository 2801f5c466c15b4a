"""Prometheus' text format, written without working out again what never changes.

A server with many classes has some 1,500 series. prometheus_client sorts and escapes the labels of each at every
reading, on the event loop that also brings users their tokens; here a series' name and labels are written once.
"""

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
_HELP_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n"})


class Exposition:
    """Writes a registry of counters, gauges and histograms, byte for byte as `prometheus_client.generate_latest`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._series: dict[tuple[str, ...], str] = {}

    def text(self) -> bytes:
        """All series as they are now."""
        lines = []
        for family in self._registry.collect():
            lines.append(_head(family))
            lines += [self._line(sample) for sample in family.samples]
        return "".join(lines).encode()

    def _line(self, sample: Sample) -> str:
        key = (sample.name, *sample.labels.values())
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = _series(sample)
        return f"{series} {floatToGoString(sample.value)}\n"  # type: ignore[no-untyped-call]


def _head(family: Metric) -> str:
    name = f"{family.name}_total" if family.type == "counter" else family.name
    return f"# HELP {name} {family.documentation.translate(_HELP_ESCAPES)}\n# TYPE {name} {family.type}\n"


def _series(sample: Sample) -> str:
    labels = ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in sorted(sample.labels.items()))
    return f"{sample.name}{{{labels}}}"
