"""The disk: whether there is room on it, and whether what was written has reached it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from maintenance_pipelines.engine.refusals import Misconfigured

GIGABYTE = 1 << 30
RESERVE = 1 << 20
"""Bytes beside what is asked for, and a twentieth of that."""


def demand_room(folder: Path, needed: int, what: str) -> None:
    """Refuses where a folder's disk has not that many bytes free, and a little more."""
    free = shutil.disk_usage(folder).free
    if free < needed * 1.05 + RESERVE:
        raise Misconfigured(
            f"There is no room for {what}: {needed / GIGABYTE:.2f} GB are needed in {folder}, "
            f"{free / GIGABYTE:.2f} GB are free."
        )


def to_disk(path: Path) -> None:
    """Returns when a file, or what a folder lists, would survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
