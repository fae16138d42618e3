"""Who applies a run: a process, told apart from any other, dead or alive."""

from __future__ import annotations

import os
import secrets
import socket
from datetime import timedelta

import psutil

LEASE = timedelta(minutes=3)
"""How long after its last heartbeat a process that cannot be looked up counts as alive. Longer
than the slowest batch may take, `Limits.batch_timeout_s`."""


def claim() -> str:
    """A name for this process's work on one run, unlike that of any other."""
    process = psutil.Process()
    started = int(process.create_time() * 1000)
    return f"{socket.gethostname()}|{os.getpid()}|{started}|{secrets.token_hex(4)}"


def is_alive(owner: str, since_heartbeat: timedelta) -> bool:
    """Whether that owner may still be applying.

    On this host the process itself is asked, so that a killed run can be taken up at once; on
    another only its heartbeat can tell.
    """
    if since_heartbeat > LEASE:
        return False
    host, pid, started, _ = owner.rsplit("|", 3)
    if host != socket.gethostname():
        return True
    try:
        process = psutil.Process(int(pid))
        # A parent that has not asked after its dead child keeps it listed.
        dead = process.status() == psutil.STATUS_ZOMBIE
        return not dead and int(process.create_time() * 1000) == int(started)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
