"""Which errors a task tries again: what may work soon, yes; verdicts and refusals, never."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule

from sluice.errors import Refused, RetryLater, RolledBack, Superseded

RETRY_DELAY = timedelta(seconds=2)

POLICY = ExceptionRetryPolicy(
    rules=[
        RetryRule(exception=RetryLater, action=RetryAction.RETRY, retry_delay=RETRY_DELAY, reason="may work soon"),
        RetryRule(exception=RolledBack, action=RetryAction.FAIL, reason="a verdict is final"),
        RetryRule(exception=Superseded, action=RetryAction.FAIL, reason="another writer has taken over"),
        RetryRule(exception=Refused, action=RetryAction.FAIL, reason="somebody must act first"),
    ]
)
