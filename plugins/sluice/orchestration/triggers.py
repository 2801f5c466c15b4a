"""The trigger behind a watch: runs the use case on the triggerer, which all releases share.

A triggerer that dies loses nothing: the next one starts the watch anew, and the watch reads from the ledger and the
cluster where it was.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from sluice import settings
from sluice.errors import SluiceError, kind_of

SHORTEST_SECONDS = 2.5
"""An event that comes earlier may meet the deferring process, which Airflow then takes for a task that died
(apache/airflow#72716). What the watch decided is written to the cluster by then."""


class WatchTrigger(BaseTrigger):
    """Watches one step of one release, and fires once with the verdict's sentence or the error."""

    def __init__(
        self, model: str, release: str, triggered_at: str, requested_by: str, epoch: int | None, step: int | None
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.arguments: dict[str, Any] = {
            "model": model,
            "release": release,
            "triggered_at": triggered_at,
            "requested_by": requested_by,
            "epoch": epoch,
            "step": step,
        }

    @classmethod
    def of(cls, run: Any, step: int | None) -> WatchTrigger:
        return cls(run.model, run.release, run.triggered_at.isoformat(), run.requested_by, run.epoch, step)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{type(self).__module__}.{type(self).__qualname__}", self.arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        # The adapters take a second to import; on a thread, so that the other releases' watches go on.
        tasks = await asyncio.to_thread(importlib.import_module, "sluice.orchestration.tasks")
        arguments = dict(self.arguments)
        step = arguments.pop("step")
        arguments["triggered_at"] = datetime.fromisoformat(arguments["triggered_at"])
        run = tasks.Run(**arguments, params={}, image=None)
        began = asyncio.get_running_loop().time()
        try:
            sentence = await tasks.perform("watch", run, step, self.log.info, settings.read())
            event = _event(sentence=sentence)
        except SluiceError as error:
            event = _event(error=kind_of(error), sentence=str(error))
        await asyncio.sleep(max(0.0, began + SHORTEST_SECONDS - asyncio.get_running_loop().time()))
        yield event


def _event(**payload: str) -> TriggerEvent:
    return TriggerEvent(payload)  # type: ignore[no-untyped-call]
