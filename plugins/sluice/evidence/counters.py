"""Counters that survive the restart of what they are read from: Prometheus' rule for resets, series by series.

A sum over pods cannot tell a restart: when one of two pods starts again, the sum falls by half of what was ever
counted, and reading that as a reset of the sum would count the other pod's past a second time. So resets are absorbed
where single series are still visible, and sums are made afterwards.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from prometheus_client.samples import Sample

LONGER = "_longer"
"""Suffix of a histogram's member that counts what is above an edge, ended or still under way. It tells no reset: it
also falls when requests under way die with their process. What was counted stays counted."""

_Series = tuple[str, str, frozenset[tuple[str, str]]]
_Member = tuple[str, str]


class MonotoneCounters:
    """Remembers each series' last values and what was counted before its resets. One that ends keeps its count.

    The members of a histogram (buckets, count) are one series: when one of them falls, all of them start from 0.
    """

    def __init__(self) -> None:
        self._last: dict[_Series, dict[_Member, Sample]] = {}
        self._before_resets: dict[tuple[_Series, _Member], float] = defaultdict(float)

    def absorb(self, *scrapes: Mapping[str, Sequence[Sample]]) -> Sequence[Sample]:
        """Each scrape: source → samples. Returns all series ever seen, values never falling.

        Samples that carry a timestamp count only if it is later than their series' last one.
        """
        for scraped in scrapes:
            found: dict[_Series, dict[_Member, Sample]] = defaultdict(dict)
            for source, samples in scraped.items():
                for sample in samples:
                    found[_series(source, sample)][_member(sample)] = sample
            for series, members in found.items():
                self._take(series, members)
        return list(self._sums())

    def _take(self, series: _Series, members: dict[_Member, Sample]) -> None:
        last = self._last.get(series, {})
        if _seen(members, last):
            return
        fallen = [member for member in members.keys() & last.keys() if members[member].value < last[member].value]
        reset = any(not name.endswith(LONGER) for name, _ in fallen)
        for member in last if reset else fallen:
            now = 0.0 if reset else members[member].value
            self._before_resets[series, member] += last[member].value - now
        gone = {member: sample for member, sample in last.items() if member not in members}
        if reset:
            gone = {member: sample._replace(value=0.0) for member, sample in gone.items()}
        self._last[series] = {**members, **gone}

    def _sums(self) -> Iterator[Sample]:
        for series, members in self._last.items():
            for member, sample in members.items():
                yield sample._replace(value=sample.value + self._before_resets.get((series, member), 0.0))


def _series(source: str, sample: Sample) -> _Series:
    family = sample.name.removesuffix("_bucket").removesuffix("_count").removesuffix(LONGER)
    return source, family, frozenset(item for item in sample.labels.items() if item[0] != "le")


def _member(sample: Sample) -> _Member:
    return sample.name, sample.labels.get("le", "")


def _seen(members: Mapping[_Member, Sample], last: Mapping[_Member, Sample]) -> bool:
    """Whether these are no later than the last ones. Without timestamps they are."""
    times = [sample.timestamp for known in (members, last) for sample in list(known.values())[:1]]
    return len(times) == 2 and None not in times and float(times[0] or 0) <= float(times[1] or 0)
