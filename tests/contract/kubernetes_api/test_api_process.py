"""The server as a program: its kubeconfig, and errors that name the thing and the remedy."""

import subprocess
import sys
from pathlib import Path

from tests.contract.kubernetes_api.api_processes import ApiServer


def start_another(server: ApiServer, directory: Path, *, port: int, database: Path) -> subprocess.CompletedProcess[str]:
    arguments = ["--port", str(port), "--database", str(database), "--kubeconfig", str(directory / "other")]
    command = [sys.executable, "-m", "sandbox.apiserver", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)


def test_a_taken_port_is_named_with_the_remedy(server: ApiServer, tmp_path: Path) -> None:
    ended = start_another(server, tmp_path, port=server.port, database=tmp_path / "db")
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1
    assert f"port {server.port} on 127.0.0.1" in ended.stderr
    assert "--port" in ended.stderr
    assert not (tmp_path / "other").exists()


def test_a_database_in_use_is_named_with_the_remedy(server: ApiServer, tmp_path: Path) -> None:
    database = server.directory / "cluster.sqlite"
    ended = start_another(server, tmp_path, port=0, database=database)
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1
    assert str(database) in ended.stderr
    assert "--database" in ended.stderr
