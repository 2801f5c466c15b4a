"""What goes into an image: a small build context and a revision."""

from __future__ import annotations

from pathlib import Path

from sluice.ports import ImageSpec, Revision


def build_context(directory: Path) -> Path:
    (directory / "serving" / "api").mkdir(parents=True)
    for name in (
        "Dockerfile",
        "requirements.lock",
        "serving/__init__.py",
        "serving/__main__.py",
        "serving/api/routes.py",
    ):
        (directory / name).write_text(f"# {name}\n")
    return directory


def revision(directory: Path) -> Revision:
    directory.mkdir()
    for name in ("config.json", "model.safetensors", "serving.json"):
        (directory / name).write_text(name)
    return Revision("r2", "sha256:feed", directory)


def image_spec(tmp_path: Path, version: str = "a1b2c3") -> ImageSpec:
    return ImageSpec(
        "registry.example.com/arithmetic", version, build_context(tmp_path / "context"), revision(tmp_path / "r2")
    )
