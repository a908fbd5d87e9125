"""A module that raises while it is imported: what a pool shows of it is its boot failure."""

from pathlib import Path


def load(path: str) -> str:
    if not Path(path).exists():
        raise RuntimeError(f"settings file {path} is missing")
    return Path(path).read_text(encoding="utf-8")


SETTINGS = load("/etc/demo/settings.json")
