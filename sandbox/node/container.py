"""One container of a pod, from its image to its last exit: started, probed, restarted with back-off, ended."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from sandbox.node.errors import ContainerConfigError, ImageError, StartError
from sandbox.node.launch import Launch
from sandbox.node.probes import Check, Probe, verdicts
from sandbox.node.runtime import RunningContainer, Runtime
from sandbox.node.status import ContainerState, Running, Terminated, Waiting

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BackOff:
    """Delays before restarts: none before the first, then `base` doubling up to `cap`; a long run starts over."""

    base_seconds: float
    cap_seconds: float

    def delay_seconds(self, crashes: int) -> float:
        """After this many crashes in a row (1: the first)."""
        return 0.0 if crashes <= 1 else min(self.cap_seconds, self.base_seconds * 2.0 ** min(crashes - 2, 30))

    def starts_over(self, ran_seconds: float) -> bool:
        return ran_seconds > 2 * self.cap_seconds


@dataclass(frozen=True)
class Plan:
    """One attempt at running the container."""

    launch: Launch
    grace_seconds: float
    startup: Probe | None
    readiness: Probe | None
    liveness: Probe | None


@dataclass(frozen=True)
class ContainerSettings:
    """What stays the same over all attempts. `plan` raises ContainerConfigError; `report` is told (reason, message)."""

    key: str
    restart_policy: str
    back_off: BackOff
    logs: Path
    plan: Callable[[], Awaitable[Plan]]
    changed: Callable[[], None]
    report: Callable[[str, str], None]


class Container:
    """Runs until it must not be restarted or is ended; `state` is always what the pod's status says of it."""

    def __init__(self, settings: ContainerSettings, state: ContainerState, runtime: Runtime, check: Check) -> None:
        self.state = state
        self._settings = settings
        self._runtime = runtime
        self._check = check
        self._running: RunningContainer | None = None
        self._ending = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    def log_path(self, *, previous: bool = False) -> Path:
        return self._settings.logs / f"{self.state.restarts - previous}.log"

    def unready(self) -> None:
        """From now on nothing makes it ready again: it is going to end."""
        self._ending = True
        self._set(ready=False)

    async def end(self, grace_seconds: float) -> None:
        self.unready()
        if self._running:
            await self._running.end(grace_seconds)
        elif self._task:
            self._task.cancel()
        if self._task:
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        crashes = 0
        while not self._ending:
            loop = asyncio.get_running_loop()
            began = loop.time()
            code = await self._attempt()
            if self._ending or not self._restarts_after(code):
                return
            crashes = (
                1 if code is not None and self._settings.back_off.starts_over(loop.time() - began) else crashes + 1
            )
            await self._back_off(code, self._settings.back_off.delay_seconds(crashes))

    def _restarts_after(self, code: int | None) -> bool:
        """`code` is None when the container could not even be created: that is tried again under every policy."""
        policy = self._settings.restart_policy
        return code is None or policy == "Always" or (policy == "OnFailure" and code != 0)

    async def _attempt(self) -> int | None:
        try:
            plan = await self._settings.plan()
            await self._runtime.pull(plan.launch.image)
            self._running = await self._runtime.start(self._settings.key, plan.launch, self.log_path())
        except ContainerConfigError as error:
            self._wait_for("CreateContainerConfigError", str(error))
            return None
        except ImageError as error:
            self._wait_for("ErrImagePull", str(error))
            return None
        except StartError as error:
            now = _now()
            self._set(current=Terminated(128, "StartError", now, now, str(error)), ready=False, started=False)
            self._settings.report("Failed", f"Error: {error}")
            return 128
        return await self._watch(self._running, plan)

    async def _watch(self, running: RunningContainer, plan: Plan) -> int:
        """Probe until the container has ended."""
        started_at = _now()
        self._set(current=Running(started_at), started=plan.startup is None, ready=False)
        self._settings.report("Started", f"Started container {self.state.name}")
        probing = asyncio.create_task(self._probe(running, plan))
        ended = await running.wait()
        probing.cancel()
        await asyncio.gather(probing, return_exceptions=True)
        self._running = None
        terminated = Terminated(ended.code, ended.reason, started_at, _now())
        self._set(current=terminated, started=False, ready=False)
        return ended.code

    async def _probe(self, running: RunningContainer, plan: Plan) -> None:
        if plan.startup:
            async for passed in verdicts(plan.startup, self._check):
                if not passed:
                    await self._kill(running, plan, "startup")
                    return
                break
        self._set(started=True, ready=plan.readiness is None)
        async with asyncio.TaskGroup() as probes:
            if plan.readiness:
                probes.create_task(self._follow_readiness(plan.readiness))
            if plan.liveness:
                probes.create_task(self._follow_liveness(running, plan, plan.liveness))

    async def _follow_readiness(self, probe: Probe) -> None:
        async for ready in verdicts(probe, self._check):
            self._set(ready=ready)
            if not ready:
                self._settings.report("Unhealthy", f"Readiness probe failed: {probe.url}")

    async def _follow_liveness(self, running: RunningContainer, plan: Plan, probe: Probe) -> None:
        async for alive in verdicts(probe, self._check):
            if not alive:
                await self._kill(running, plan, "liveness")
                return

    async def _kill(self, running: RunningContainer, plan: Plan, probe: str) -> None:
        name = self.state.name
        self._settings.report("Killing", f"Container {name} failed {probe} probe, will be restarted")
        # Shielded: the end of the process cancels the probing task in which this runs.
        await asyncio.shield(running.end(plan.grace_seconds))

    async def _back_off(self, code: int | None, delay_seconds: float) -> None:
        current = self.state.current
        if isinstance(current, Waiting):
            if current.reason == "ErrImagePull":
                self._wait_for("ImagePullBackOff", f"Back-off pulling: {current.message}")
            await asyncio.sleep(max(delay_seconds, self._settings.back_off.base_seconds))
            return
        if isinstance(current, Terminated):
            self._set(last=current)
        if delay_seconds:
            message = f"back-off {delay_seconds:g}s restarting failed container={self.state.name}"
            self._wait_for("CrashLoopBackOff", message)
            self._settings.report("BackOff", f"Back-off restarting failed container {self.state.name}")
            await asyncio.sleep(delay_seconds)
        self._set(restarts=self.state.restarts + 1)

    def _wait_for(self, reason: str, message: str) -> None:
        self._set(current=Waiting(reason, message), ready=False, started=False)
        if reason != "CrashLoopBackOff":
            self._settings.report("Failed", f"{reason}: {message}")

    def _set(self, **changes: object) -> None:
        if self._ending and changes.get("ready"):
            changes["ready"] = False
        state = replace(self.state, **changes)  # type: ignore[arg-type]
        if state != self.state:
            self.state = state
            self._settings.changed()


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
