"""Restore: a backup takes the place of an instance, and what was there is kept beside it."""

from __future__ import annotations

import contextlib
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import psutil
import psycopg
from psycopg import sql
from sqlalchemy.exc import DatabaseError

from maintenance_pipelines.engine.refusals import BadInput, Guarded, Misconfigured
from maintenance_pipelines.systems.cashback import disk, postgres_dump, reading, sqlite_copy
from maintenance_pipelines.systems.cashback.instance import Instance
from maintenance_pipelines.systems.cashback.postgres_instance import PostgresInstance
from maintenance_pipelines.systems.cashback.sqlite_instance import SqliteInstance

JOURNALS = ("-wal", "-journal")


def restore(instance: Instance, backup: Path) -> str:
    """Restores an instance from a backup; returns where what was there before is kept.

    An SQLite file is replaced at one stroke, and the file before it stays beside it under another
    name; the application has to be stopped. On PostgreSQL the backup is restored into a new
    database on the same server, whose name is returned: nothing that is there is touched, and
    the application is pointed to it by its own settings.
    """
    if not backup.is_file():
        raise BadInput(f"There is no backup {backup}.")
    if isinstance(instance, PostgresInstance):
        return _into_a_new_database(instance, backup)
    assert isinstance(instance, SqliteInstance), "there is no third kind"
    return str(_replace(instance, backup))


def _replace(instance: SqliteInstance, backup: Path) -> Path:
    path = instance.path
    _demand_database(instance, backup)
    folder = path.parent
    if not os.access(folder, os.W_OK | os.X_OK):
        raise Misconfigured(f"The folder {folder} cannot be written by this user.")
    disk.demand_room(folder, backup.stat().st_size, "the restored database")
    kept = path.with_name(f"{path.name}.before-restore-{datetime.now(UTC):%Y-%m-%dT%H%M%S.%fZ}")
    draft = path.with_name(f"{path.name}.restoring")
    _demand_idle(instance)
    try:
        _copy(backup, draft, like=path)
        if path.exists():
            _keep(path, kept)
        draft.replace(path)
        disk.to_disk(folder)
    finally:
        draft.unlink(missing_ok=True)
    return kept


def _demand_database(instance: SqliteInstance, backup: Path) -> None:
    try:
        sqlite_copy.demand_whole(backup)
    except DatabaseError as error:
        refusal = reading.refusal_of(error, backup)
        raise refusal or error from None


def _demand_idle(instance: SqliteInstance) -> None:
    """Refuses while somebody has the file open: they would go on writing to the old one.

    Processes are looked up as far as this user may see them, and locks are asked for.
    """
    for process in psutil.process_iter(["pid", "name"]):
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and str(instance.path) in {
                file.path for file in process.open_files()
            }:
                raise Guarded(
                    f"{instance.path} is open in process {process.pid} "
                    f"({process.info['name']}); stop the application first. Nothing was written."
                )
    if not instance.path.exists():
        return
    try:
        with reading.connected(instance.path, "mode=rw") as connection:
            # The exclusive mode takes its lock against idle connections, too, in WAL mode; and
            # closing folds what is in `-wal` into the file.
            connection.exec_driver_sql("PRAGMA locking_mode = EXCLUSIVE")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            connection.exec_driver_sql("ROLLBACK")
    except DatabaseError as error:
        if reading.is_busy(error):
            raise Guarded(
                f"{instance.path} is in use; stop the application first. Nothing was written."
            ) from None
        # Damaged, or no database any more: that may be why it is to be replaced.


def _copy(backup: Path, draft: Path, like: Path) -> None:
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    os.close(descriptor)
    shutil.copyfile(backup, draft)
    if like.exists():
        before = like.stat()
        draft.chmod(before.st_mode & 0o7777)
        if (before.st_uid, before.st_gid) != (draft.stat().st_uid, draft.stat().st_gid):
            os.chown(draft, before.st_uid, before.st_gid)
    disk.to_disk(draft)


def _keep(path: Path, kept: Path) -> None:
    """Gives the file a second name, so that there is no moment without any; its journals move."""
    try:
        kept.hardlink_to(path)
    except OSError:  # a file system without links
        shutil.copy2(path, kept)
        disk.to_disk(kept)
    for suffix in JOURNALS:
        journal = path.with_name(path.name + suffix)
        if journal.exists():
            journal.rename(kept.with_name(kept.name + suffix))
    # Shared memory says nothing that SQLite does not find out again by itself.
    path.with_name(f"{path.name}-shm").unlink(missing_ok=True)


def _into_a_new_database(instance: PostgresInstance, backup: Path) -> str:
    database = instance.database.engine.url.database or "database"
    name = f"{database[:35]}_restored_{datetime.now(UTC):%Y%m%d_%H%M%S}"
    programs = postgres_dump.programs_for(postgres_dump.version_of(instance))
    _administer(instance, "CREATE DATABASE {} TEMPLATE template0", name)
    try:
        target, password = postgres_dump.address(instance, name)
        options = ("--exit-on-error", f"--dbname={target}", str(backup))
        postgres_dump.run(programs / "pg_restore", *options, secret=password)
    except BaseException:
        _administer(instance, "DROP DATABASE {}", name)
        raise
    return name


def _administer(instance: PostgresInstance, statement: str, database: str) -> None:
    where, password = postgres_dump.address(instance)
    with psycopg.connect(where, password=password, autocommit=True) as connection:
        # The text is this module's own; only the name is filled in.
        connection.execute(sql.SQL(statement).format(sql.Identifier(database)))
