"""Where the sandbox's Airflow lives and the environment that all of its processes get.

Airflow reads its configuration from the environment, so one function states it completely; a caller's own `AIRFLOW__…`
variables are dropped, because half of another installation's configuration is worse than none. What is secret is made
once per home and kept, so that logins and tokens survive restarts.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

HOST = "127.0.0.1"
USER = "admin"
DEFAULT_HOME = Path("var/airflow")
DEFAULT_PORT = 18090

LOCAL_SETTINGS = """\
# Tasks are forked from the scheduler: what it has imported, none of them has to import again (half a second each).
import sys

__all__: list[str] = []

if "scheduler" in sys.argv:
    import httpx
    import kubernetes_asyncio.client
    import kubernetes_asyncio.config
"""


@dataclass(frozen=True)
class Settings:
    """One installation: its directory, its port, and what it runs."""

    home: Path = DEFAULT_HOME
    """Database, logs, password and pid file; everything that Airflow writes."""
    port: int = DEFAULT_PORT
    """Loopback port of the API server and UI."""
    dags: Path = Path("dags")
    plugins: Path = Path("plugins")
    overrides: Mapping[str, str] = field(default_factory=dict)
    """Environment variables that win over what `environment` sets, e.g. AIRFLOW__SCHEDULER__…"""

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def log(self) -> Path:
        """Output of all components, one file."""
        return self.home / "standalone.log"


@dataclass(frozen=True)
class Secrets:
    """What is random in an installation."""

    password: str
    """Of the user `admin`."""
    jwt_secret: str
    """Signs the API's and the tasks' tokens; Airflow's components refuse each other if theirs differ."""
    fernet_key: str
    session_key: str


def secrets_of(home: Path) -> Secrets:
    """The secrets kept in `home`, made at the first call; only their owner can read the files."""
    home.mkdir(parents=True, exist_ok=True)
    kept = home / "secrets.json"
    if not kept.exists():
        made = Secrets(
            password=secrets.token_urlsafe(12),
            jwt_secret=secrets.token_urlsafe(48),
            fernet_key=base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            session_key=secrets.token_urlsafe(32),
        )
        _write_private(kept, json.dumps(made.__dict__))
    found = Secrets(**json.loads(kept.read_text()))
    # The simple auth manager takes passwords from this file and invents one only for users that it does not name.
    passwords = home / "simple_auth_manager_passwords.json.generated"
    if not passwords.exists():
        _write_private(passwords, json.dumps({USER: found.password}))
    return found


def environment(settings: Settings, found: Secrets, caller: Mapping[str, str]) -> dict[str, str]:
    """The complete environment of `airflow standalone` and all that it starts."""
    kept = {name: value for name, value in caller.items() if not _is_airflow_configuration(name)}
    here = {
        "AIRFLOW_HOME": str(settings.home.resolve()),
        # standalone starts its components as `airflow …` from the PATH
        "PATH": os.pathsep.join([str(wrapper(settings.home).parent), caller.get("PATH", os.defpath)]),
        "NO_PROXY": ",".join(filter(None, [caller.get("NO_PROXY", ""), HOST, "localhost"])),
        "OMP_NUM_THREADS": "1",
        **{f"AIRFLOW__{name}": value for name, value in _configuration(settings, found).items()},
    }
    return {**kept, **here, **settings.overrides}


def _configuration(settings: Settings, found: Secrets) -> dict[str, str]:
    return {
        "CORE__DAGS_FOLDER": str(settings.dags.resolve()),
        "CORE__PLUGINS_FOLDER": str(settings.plugins.resolve()),
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        # one idle worker process each
        "CORE__PARALLELISM": "4",
        "CORE__FERNET_KEY": found.fernet_key,
        "CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
        "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
        "CORE__EXECUTION_API_SERVER_URL": f"{settings.url}/execution/",
        # the default asks the resolver for a domain name, which takes seconds on machines without one
        "CORE__HOSTNAME_CALLABLE": "socket.gethostname",
        "API__HOST": HOST,
        "API__PORT": str(settings.port),
        "API__BASE_URL": settings.url,
        "API__WORKERS": "1",
        "API__SECRET_KEY": found.session_key,
        "API_AUTH__JWT_SECRET": found.jwt_secret,
        # the pause between two looks for work; the default of 1 s is most of what a short task costs
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.1",
        # how long a task whose process vanished counts as running (default 300 s)
        "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
        # A supervisor may notice only at its next heartbeat that its task is over: the slot stays taken, and an event
        # of the executor that comes after a deferred task has resumed makes that task fail (apache/airflow#72716).
        "WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        # as patient with a restarting API server as the defaults (3 heartbeats, 5 s apart) are
        "WORKERS__MAX_FAILED_HEARTBEATS": "15",
        "DAG_PROCESSOR__REFRESH_INTERVAL": "10",
        "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "10",
        "DAG_PROCESSOR__PARSING_PROCESSES": "1",
        "USAGE_DATA_COLLECTION__ENABLED": "False",
    }


def wrapper(home: Path) -> Path:
    """Where the `airflow` of this installation is."""
    return home.resolve() / "bin" / "airflow"


def write_files(home: Path) -> None:
    """Put into the home what the environment cannot say: the `airflow` that standalone calls, and local settings.

    That `airflow` uses this interpreter and starts no log servers: these bind every interface of the machine and cannot
    be told otherwise, and with everything on one machine the API server reads the log files themselves.
    """
    local_settings = home / "config" / "airflow_local_settings.py"
    local_settings.parent.mkdir(parents=True, exist_ok=True)
    local_settings.write_text(LOCAL_SETTINGS)
    path = wrapper(home)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "#!/bin/sh\n"
        'case "$1" in scheduler|triggerer) set -- "$@" --skip-serve-logs ;; esac\n'
        f'exec {shlex.quote(sys.executable)} -P -m airflow "$@"\n'
    )
    path.chmod(0o755)


def fingerprint(variables: Mapping[str, str], plugins: Path) -> str:
    """Changes when a running Airflow has to be restarted: other settings, or other code in its plugins folder."""
    said = [f"{name}={value}" for name, value in sorted(variables.items()) if name.startswith(("AIRFLOW", "SLUICE_"))]
    code = [f"{path} {path.stat().st_mtime_ns}" for path in sorted(plugins.rglob("*.py"))]
    return hashlib.sha256("\n".join([LOCAL_SETTINGS, *said, *code]).encode()).hexdigest()


def _is_airflow_configuration(name: str) -> bool:
    return name.startswith("AIRFLOW__") or name in {"AIRFLOW_HOME", "AIRFLOW_CONFIG"}


def _write_private(path: Path, text: str) -> None:
    with open(path, "w", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(text + "\n")
