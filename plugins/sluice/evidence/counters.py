"""Counters that survive the restart of what they are read from: Prometheus' rule for resets, series by series.

A sum over pods cannot tell a restart: when one of two pods starts again, the sum falls by half of what was ever
counted, and reading that as a reset of the sum would count the other pod's past a second time. So resets are absorbed
where single series are still visible, and sums are made afterwards.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from prometheus_client.samples import Sample

_Series = tuple[str, str, frozenset[tuple[str, str]]]
_Member = tuple[str, str]


class MonotoneCounters:
    """Remembers each series' last values and what was counted before its resets. One that ends keeps its count.

    The buckets and the count of a histogram are one series: when one of them falls, all of them start from 0.
    """

    def __init__(self) -> None:
        self._last: dict[_Series, dict[_Member, Sample]] = {}
        self._before_resets: dict[tuple[_Series, _Member], float] = defaultdict(float)

    def absorb(self, scraped: Mapping[str, Sequence[Sample]]) -> Sequence[Sample]:
        """Source → samples, as scraped one after the other; returns all series ever seen, values never falling."""
        found: dict[_Series, dict[_Member, Sample]] = defaultdict(dict)
        for source, samples in scraped.items():
            for sample in samples:
                found[_series(source, sample)][_member(sample)] = sample
        for series, members in found.items():
            self._take(series, members)
        return list(self._sums())

    def _take(self, series: _Series, members: dict[_Member, Sample]) -> None:
        last = self._last.get(series, {})
        if any(members[member].value < last[member].value for member in members.keys() & last.keys()):
            for member, sample in last.items():
                self._before_resets[series, member] += sample.value
        self._last[series] = members

    def _sums(self) -> Iterator[Sample]:
        for series, members in self._last.items():
            for member, sample in members.items():
                yield sample._replace(value=sample.value + self._before_resets.get((series, member), 0.0))


def _series(source: str, sample: Sample) -> _Series:
    family = sample.name.removesuffix("_bucket").removesuffix("_count")
    return source, family, frozenset(item for item in sample.labels.items() if item[0] != "le")


def _member(sample: Sample) -> _Member:
    return sample.name, sample.labels.get("le", "")
