"""What a release is judged by: probes through the gateway, prompt sets and their scorers, users' telemetry.

Implements `ports.Endpoint` and `ports.Telemetry`. The only room that imports httpx.
"""
