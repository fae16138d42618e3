"""Who applies a run: a process that was killed is known as dead at once."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta

import psutil

from maintenance_pipelines.engine import ownership

FRESH = timedelta(seconds=1)


def named(process: psutil.Process) -> str:
    host, _, _, token = ownership.claim().rsplit("|", 3)
    return f"{host}|{process.pid}|{int(process.create_time() * 1000)}|{token}"


def test_this_process_is_alive_and_each_claim_of_it_is_another() -> None:
    assert ownership.is_alive(ownership.claim(), FRESH)
    assert ownership.claim() != ownership.claim()


def test_a_killed_process_is_dead_even_before_its_parent_has_noticed() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process = psutil.Process(child.pid)
    owner = named(process)
    assert ownership.is_alive(owner, FRESH)
    child.kill()
    while process.status() != psutil.STATUS_ZOMBIE:
        pass
    assert not ownership.is_alive(owner, FRESH)
    child.communicate()
    assert not ownership.is_alive(owner, FRESH)


def test_another_process_of_the_same_number_is_not_the_owner() -> None:
    host, pid, started, token = ownership.claim().rsplit("|", 3)
    assert not ownership.is_alive(f"{host}|{pid}|{int(started) - 1000}|{token}", FRESH)


def test_a_process_without_a_heartbeat_for_too_long_is_given_up() -> None:
    assert not ownership.is_alive(ownership.claim(), ownership.LEASE + FRESH)


def test_a_process_on_another_host_is_judged_by_its_heartbeat_alone() -> None:
    assert ownership.is_alive("elsewhere|1|1|a", ownership.LEASE - FRESH)
    assert not ownership.is_alive("elsewhere|1|1|a", ownership.LEASE + FRESH)
