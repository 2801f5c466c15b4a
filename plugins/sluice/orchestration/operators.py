"""The operators of a release DAG. Thin: Airflow's context in, one use case, a small result out."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowSkipException

from sluice import errors
from sluice.orchestration.triggers import WatchTrigger
from sluice.release import NO_VERSION


@contextmanager
def reported(log: Any) -> Iterator[None]:
    """An error of the library as one sentence in the log; Airflow adds a traceback, which is kept short."""
    try:
        yield
    except errors.SluiceError as error:
        log.error(str(error))
        raise error.with_traceback(None) from None


class PlanOperator(BaseOperator):
    """Resolves and pins what the run is to release; `mistake` is what is wrong with the policy file, if anything."""

    def __init__(self, *, model: str, policy_file: str, mistake: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.policy_file = policy_file
        self.mistake = mistake

    def execute(self, context: Context) -> Any:
        from sluice.orchestration import tasks
        from sluice.orchestration.connections import task_settings
        from sluice.orchestration.context import run_of

        with reported(self.log):
            if self.mistake:
                raise errors.BadInput(self.mistake)
            run = run_of(context, self.model)
            return asyncio.run(tasks.plan_task(run, Path(self.policy_file), self.log.info, task_settings()))


class UseCaseOperator(BaseOperator):
    """Calls one use case of the release that its run has planned."""

    def __init__(self, *, model: str, use_case: str, step: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.use_case = use_case
        self.step = step

    def execute(self, context: Context) -> Any:
        from sluice.orchestration import tasks
        from sluice.orchestration.connections import task_settings
        from sluice.orchestration.context import run_of

        self._skip_if_there_is_nothing_to_do(context)
        with reported(self.log):
            run = run_of(context, self.model)
            return asyncio.run(tasks.perform(self.use_case, run, self.step, self.log.info, task_settings()))

    def _skip_if_there_is_nothing_to_do(self, context: Context) -> None:
        planned = context["ti"].xcom_pull(task_ids="plan") or {}
        if planned.get("nothing_to_do"):
            raise AirflowSkipException(f"nothing to do: version {planned['version']} already has all traffic")
        if self.use_case == "shift" and context["params"].get("dry_run"):
            raise AirflowSkipException("a dry run ends before the first shift: no user sees the canary")


class WatchOperator(UseCaseOperator):
    """Waits in the triggerer for a step's verdict, so that a long hold takes no worker."""

    def execute(self, context: Context) -> Any:
        from sluice.orchestration.context import run_of

        begun = context["ti"].xcom_pull(task_ids="begin") or {}
        if begun.get("last_good") == NO_VERSION and self.step is not None:
            return super().execute(context)  # a first release has nothing to compare, so nothing to wait for
        self.defer(trigger=WatchTrigger.of(run_of(context, self.model), self.step), method_name="decided")

    def decided(self, context: Context, event: dict[str, str]) -> str:
        """The watch's end: its sentence, or the error that it ended with."""
        if "error" in event:
            with reported(self.log):
                raise errors.of_kind(event["error"], event["sentence"])
        self.log.info(event["sentence"])
        return event["sentence"]


class ConcludeOperator(UseCaseOperator):
    """Decides the run's state; the result holds the outcome for whoever waits for the run, failed or not."""

    def execute(self, context: Context) -> Any:
        try:
            return super().execute(context)
        except (errors.RolledBack, errors.Refused) as error:
            outcome = "rolled_back" if isinstance(error, errors.RolledBack) else "unsettled"
            context["ti"].xcom_push(key="return_value", value={"outcome": outcome, "sentence": str(error)})
            raise
