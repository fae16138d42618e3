"""What comes from the environment, and from a `.env` in the project, validated in one place.

A variable of the environment wins over the same one in `.env`; an empty one counts as absent.
"""

from __future__ import annotations

import getpass
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from dotenv import dotenv_values
from pydantic import BaseModel, Field, PositiveInt, SecretStr, ValidationError, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from maintenance_pipelines import embedded
from maintenance_pipelines.engine.database import Limits, parse_url
from maintenance_pipelines.engine.refusals import Misconfigured

PROJECT = Path(__file__).resolve().parent.parent
"""The project's folder: `.env`, `dagster.yaml` and by default `.maintenance/` lie in it."""

STORAGE = "DAGSTER_POSTGRES_URL"
"""The variable that holds the address of Dagster's storage."""

DAGSTER_DATABASE = "dagster"
"""The embedded server's database that holds Dagster's storage where none is set."""


Options = TypeVar("Options", bound=BaseModel)


class HasOptions(Protocol):
    """What is looked at of a job, of whichever kind."""

    @property
    def system(self) -> str:
        """The system that it belongs to."""

    @property
    def options(self) -> type[BaseModel]:
        """The model of its options."""


POSTGRES_EXAMPLE = "postgresql://user:password@host:5432/database"


class Settings(BaseSettings):
    """The settings. Make them with `load`; each field is the variable `MAINTENANCE_<FIELD>`."""

    model_config = SettingsConfigDict(
        env_prefix="MAINTENANCE_",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        populate_by_name=True,
    )

    home: Path = PROJECT / ".maintenance"
    """Folder of the embedded server's data, Dagster's logs and reports."""
    operator: str = Field(default_factory=lambda: _system_user(), min_length=1)
    """Who plans, applies and approves: declared, not authenticated."""
    postgres_version: int = embedded.VERSIONS[-1]
    """PostgreSQL version of the embedded server."""
    plan_hours: PositiveInt = 24
    """Hours after which a plan is stale."""
    retention_days: PositiveInt = 90
    """Days that finished plans are kept; a pruned run cannot be undone."""
    lock_timeout_ms: PositiveInt = Limits.lock_timeout_ms
    batch_timeout_s: PositiveInt = Limits.batch_timeout_s
    detection_timeout_s: PositiveInt = Limits.detection_timeout_s
    batch_rows: PositiveInt = Limits.batch_rows
    granule_rows: PositiveInt = Limits.granule_rows
    workers: PositiveInt = Limits.workers
    attempts: PositiveInt = Limits.attempts
    lock_patience: PositiveInt = Limits.lock_patience
    work_mem: str = Limits.work_mem
    dagster_storage: SecretStr | None = Field(None, validation_alias=STORAGE)
    """Dagster's own database as it was given; see `dagster_environment` for what Dagster gets."""
    smtp_url: SecretStr | None = None
    """The mail server, `smtp://user:password@host:587`; no mail goes out without it."""
    mail_from: str = "Maintenance <no-reply@example.com>"
    """Whom mails are from."""
    variables: Mapping[str, SecretStr] = Field(default_factory=dict, exclude=True, repr=False)
    """Every variable there is, for those that carry a system's name."""

    @classmethod
    def load(cls) -> Settings:
        """Reads the environment and the project's `.env` (or the file that
        `MAINTENANCE_ENV_FILE` names in its place); refuses a bad value by its name.
        """
        file = Path(os.environ.get("MAINTENANCE_ENV_FILE") or PROJECT / ".env")
        given = {**dotenv_values(file), **{k: v for k, v in os.environ.items() if v}}
        variables = {name: SecretStr(text) for name, text in given.items() if text}
        try:
            return cls(_env_file=file, variables=variables)
        except ValidationError as error:
            raise _refusal(error, "MAINTENANCE_") from None

    @field_validator("home")
    @classmethod
    def _from_the_project(cls, home: Path) -> Path:
        """A relative folder is meant from the project, wherever the command was typed."""
        return PROJECT / home.expanduser()

    @field_validator("postgres_version")
    @classmethod
    def _exists(cls, version: int) -> int:
        if version not in embedded.VERSIONS:
            raise ValueError(f"should be one of {', '.join(map(str, embedded.VERSIONS))}")
        return version

    @field_validator("work_mem")
    @classmethod
    def _is_a_size(cls, size: str) -> str:
        if not re.fullmatch(r"[1-9]\d{0,6}(kB|MB|GB)", size, re.ASCII):
            raise ValueError(f"should be a size like {Limits.work_mem}")
        return size

    @property
    def backups(self) -> Path:
        """The folder of the backups that are made before a migration."""
        return self.home / "backups"

    @property
    def exports(self) -> Path:
        """The folder of rows that were exported before their table was dropped."""
        return self.home / "exports"

    @property
    def limits(self) -> Limits:
        """What bounds a run."""
        return Limits(
            lock_timeout_ms=self.lock_timeout_ms,
            batch_timeout_s=self.batch_timeout_s,
            detection_timeout_s=self.detection_timeout_s,
            batch_rows=self.batch_rows,
            granule_rows=self.granule_rows,
            workers=self.workers,
            attempts=self.attempts,
            lock_patience=self.lock_patience,
            work_mem=self.work_mem,
        )

    def has_url(self, system: str) -> bool:
        """Whether a system's database, or an instance's like `cashback_prod`, has an address."""
        return self._text(url_variable(system)) is not None

    def url(self, system: str, example: str = POSTGRES_EXAMPLE) -> str:
        """The address of a system's database as it was given, `embedded:NAME` included.

        It holds a password: hand it on, never print it. Where there is none, the refusal shows
        the `example`.
        """
        name = url_variable(system)
        text = self._text(name)
        if text is None:
            raise Misconfigured(
                f"{name} is not set: put the address of the {system} database into the "
                f"environment or into .env in the project, like {name}={example}."
            )
        return text

    def approval_above(self, system: str) -> int | None:
        """Rows above which a plan needs a second person (`<SYSTEM>_APPROVAL_ABOVE`), else None."""
        name = f"{_prefix(system)}APPROVAL_ABOVE"
        text = self._text(name)
        if text is None:
            return None
        if not text.isdecimal():
            raise Misconfigured(f"{name} should be a number of rows, 0 or more.")
        return int(text)

    def allowed_triggers(self, system: str) -> frozenset[str]:
        """The app's triggers that may act on the job's rows (`<SYSTEM>_ALLOWED_TRIGGERS`)."""
        text = self._text(f"{_prefix(system)}ALLOWED_TRIGGERS") or ""
        return frozenset(name.strip() for name in text.split(",") if name.strip())

    def options(self, job: HasOptions) -> BaseModel:
        """The job's options; see `options_of`."""
        return self.options_of(job.system, job.options)

    def options_of(self, system: str, model: type[Options]) -> Options:
        """A system's options, each from the variable `<SYSTEM>_<OPTION>`; absent ones default."""
        prefix = _prefix(system)
        texts = {field: self._text(prefix + field.upper()) for field in model.model_fields}
        given: dict[str, Any] = {field: text for field, text in texts.items() if text is not None}
        try:
            return model.model_validate(given)
        except ValidationError as error:
            raise _refusal(error, prefix) from None

    def dagster_environment(self) -> dict[str, str]:
        """What Dagster's processes need in their environment, to be set before it is used.

        Starts the embedded server where no storage of Dagster's is set, and holds it until
        this process ends. The address says psycopg2, since Dagster's event log cannot notify
        through psycopg 3, which a plain `postgresql://` means to SQLAlchemy 2.1.
        """
        given = self.dagster_storage
        url = given.get_secret_value() if given else f"{embedded.PREFIX}{DAGSTER_DATABASE}"
        address, _ = parse_url(embedded.resolve(url, self.home, self.postgres_version), STORAGE)
        storage = address.set(drivername="postgresql+psycopg2")
        return {
            "DAGSTER_HOME": str(PROJECT),
            STORAGE: storage.render_as_string(hide_password=False),
            "DAGSTER_FILES": str(self.home / "dagster"),
            "MAINTENANCE_HOME": str(self.home),
            "MAINTENANCE_POSTGRES_VERSION": str(self.postgres_version),
        }

    def _text(self, name: str) -> str | None:
        secret = self.variables.get(name)
        return secret.get_secret_value() if secret else None


def url_variable(system: str) -> str:
    """The variable that holds the address of a system's database."""
    return f"{_prefix(system)}DATABASE_URL"


def _prefix(system: str) -> str:
    return f"{system.upper()}_"


def _system_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return f"uid-{os.getuid()}"


def _refusal(error: ValidationError, prefix: str) -> Misconfigured:
    """One sentence that names each bad variable, without the value it has."""
    return Misconfigured("; ".join(_complaint(detail, prefix) for detail in error.errors()) + ".")


def _complaint(detail: ErrorDetails, prefix: str) -> str:
    field = str(detail["loc"][0]) if detail["loc"] else ""
    variable = field if field.isupper() else prefix + field.upper()
    says = detail["msg"].removeprefix("Input ").removeprefix("Value error, ").rstrip(".")
    return f"{variable} {says[:1].lower()}{says[1:]}"
