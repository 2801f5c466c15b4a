"""For all tests: a home for Airflow that is nobody's, and no silent skip where everything must run."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator

import pytest

# Airflow makes its home when it is first imported; a user's own must not be touched.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="sluice-tests-airflow-")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI (environment variable CI) a skipped test is a failed one: nobody would notice it otherwise."""
    report = yield
    if report.skipped and os.environ.get("CI") and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} must run in CI: {reason}"
    return report
