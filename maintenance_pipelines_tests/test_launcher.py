"""The launcher, without installing anything; and the locks that it installs from."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from maintenance_pipelines.settings import PROJECT

TOOLS = ["sh", "dirname", "readlink", "cksum", "grep"]


def _with_only(folder: Path, pythons: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Runs a copy of the launcher where PATH has only what it needs and these Pythons."""
    programs, project = folder / "bin", folder / "a project"
    programs.mkdir()
    project.mkdir()
    for tool in TOOLS:
        (programs / tool).symlink_to(str(shutil.which(tool)))
    for name, script in pythons.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    for name in ("maintenance", "requirements.txt"):
        shutil.copy(PROJECT / name, project)
    return subprocess.run(
        [project / "maintenance", "jobs"],
        env={"PATH": str(programs)},
        cwd="/",
        text=True,
        capture_output=True,
    )


@pytest.mark.parametrize("shell", ["sh", "dash", "bash", "busybox"])
def test_every_shell_can_read_the_launcher(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")
    command = [shell, "sh"] if shell == "busybox" else [shell]
    subprocess.run([*command, "-n", PROJECT / "maintenance"], check=True)


@pytest.mark.parametrize("pythons", [{}, {"python3": "exit 1"}])
def test_without_a_suitable_python_the_versions_are_named(
    tmp_path: Path, pythons: dict[str, str]
) -> None:
    ended = _with_only(tmp_path, pythons)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == (
        "maintenance: Python 3.11, 3.12 or 3.13 is needed, and none of them was found on PATH.\n"
    )


def test_a_python_without_venv_is_refused_with_what_to_install(tmp_path: Path) -> None:
    ended = _with_only(tmp_path, {"python3": "case $2 in *ensurepip*) exit 1 ;; esac"})
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.count("\n") == 1
    assert "python3 cannot make virtual environments" in ended.stderr
    assert "apt-get install python3-venv" in ended.stderr


def test_a_failed_installation_leaves_no_stamp(tmp_path: Path) -> None:
    ended = _with_only(tmp_path, {"python3": 'case "$*" in *venv*--clear*) exit 1 ;; esac'})
    assert ended.returncode == 2
    assert "the requirements could not be installed" in ended.stderr
    assert not (tmp_path / "a project" / ".venv").exists()


def test_the_tests_lock_contains_the_runtimes_lock() -> None:
    assert _locked("requirements.txt") <= _locked("requirements-dev.txt")


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_a_lock_names_no_place_and_hashes_everything(name: str) -> None:
    text = (PROJECT / name).read_text()
    assert "://" not in text
    assert "--index-url" not in text.replace("--no-emit-index-url", "")
    entries = re.split(r"\n(?=\w)", text)[1:]
    assert all("--hash=sha256:" in entry for entry in entries)


def _locked(name: str) -> set[str]:
    return set(re.findall(r"^(\S+==\S+)", (PROJECT / name).read_text(), re.MULTILINE))
