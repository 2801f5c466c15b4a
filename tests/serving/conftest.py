"""These tests need torch: without it (in the environment of Airflow and the library) they are not collected."""

import importlib.util

if importlib.util.find_spec("torch") is None:
    collect_ignore_glob = ["*"]
