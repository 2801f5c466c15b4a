"""Which adapters the settings choose."""

from __future__ import annotations

import pytest

from sluice import settings
from sluice.assembly import telemetry_of
from sluice.errors import BadInput
from sluice.evidence.prometheus import PrometheusTelemetry
from sluice.evidence.telemetry import ScrapedTelemetry

SCRAPED = {"SLUICE_METRICS_URLS": "http://gateway/metrics"}
STORED = {"SLUICE_PROMETHEUS_URL": "http://prometheus:9090"}


@pytest.mark.parametrize(
    ("variables", "source"),
    [(SCRAPED, ScrapedTelemetry), (STORED, PrometheusTelemetry), (SCRAPED | STORED, PrometheusTelemetry)],
)
async def test_a_prometheus_is_preferred_to_single_scrapes(variables: dict[str, str], source: type) -> None:
    async with telemetry_of(settings.read(variables)) as telemetry:
        assert type(telemetry) is source


def test_without_any_source_both_are_named() -> None:
    with pytest.raises(BadInput, match="neither SLUICE_PROMETHEUS_URL nor SLUICE_METRICS_URLS is set"):
        telemetry_of(settings.read({}))
