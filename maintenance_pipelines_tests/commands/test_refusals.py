"""Bad input and unfit databases: one sentence, the right exit code, nothing written."""

from __future__ import annotations

import os
import re

import pytest

from maintenance_pipelines_tests.orchestration.fixtures import Terminal
from maintenance_pipelines_tests.orchestration.household import JOB, MONTH, App, Said

RUN = ("run", JOB, "--partition", MONTH)


def assert_refused(said: Said, code: int, *words: str) -> None:
    assert said.code == code, said.err
    assert len(said.err.strip().splitlines()) == 1, said.err
    assert said.sentence == said.json["error"]
    assert said.json["exit_code"] == code
    for word in words:
        assert word in said.sentence, said.sentence


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "benefit_backfill"), ("benefit_backfill", "benefit_status_backfill")),
        (("run", JOB, "--partition", "08/2025"), ("08/2025", "YYYY-MM")),
        (("run", JOB, "--partition", "2025-13"), ("2025-13",)),
        (("run", JOB, "--partition", "2024-12"), ("2024-12", "2025-01")),
        (("run", JOB, "--partition", "2999-01"), ("2999-01", "future")),
        (("run", JOB, "--as-of", "yesterday"), ("yesterday", "ISO 8601")),
        (("run", JOB, "--as-of", "2999-01-01"), ("2999-01-01", "future")),
        (("run", JOB, "--as-of", "2025-08-02", "--partition", "2025-09"), ("2025-09", "future")),
        (("run", JOB, "--expected-rows", "many"), ("many", "MIN..MAX")),
        (("run", JOB, "--expected-rows", ".."), ("MIN..MAX",)),
        (("run", JOB, "--expected-rows", "9..1"), ("9..1",)),
        (("run", JOB, "--nonsense"), ("--nonsense",)),
        (("run",), ("JOB",)),
        (("rum", JOB), ("rum",)),
        (("apply", "beef"), ("beef", "runs")),
        (("rollback", "beef"), ("beef",)),
        (("pause", "beef"), ("beef",)),
        (("resume", "beef"), ("beef",)),
        (("cancel", "beef"), ("beef",)),
        (("approve", "beef"), ("beef",)),
        (("runs", "beef"), ("beef",)),
        (("verify", "nothing"), ("nothing",)),
        (("grants", "nothing"), ("nothing",)),
        (("doctor", "nothing"), ("nothing", "benefits")),
        (("install", "nothing"), ("nothing", "benefits")),
        (("demo", "nothing"), ("nothing",)),
    ],
    ids=" ".join,
)
def test_bad_input_is_refused_in_one_sentence(
    terminal: Terminal, app: App, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    before = app.statuses()
    assert_refused(terminal(*arguments, "--json"), 2, *words)
    assert app.tables() == set()
    assert app.statuses() == before


@pytest.mark.parametrize("arguments", [RUN, ("runs",), ("prune",), ("install", "benefits")])
def test_a_missing_url_is_refused_by_the_name_of_its_variable(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.delenv("BENEFITS_DATABASE_URL")
    assert_refused(terminal(*arguments, "--json"), 2, "BENEFITS_DATABASE_URL")


@pytest.mark.parametrize(
    "url", ["benefits", "mysql://ada:secret@host/app", "postgresql://ada:secret@host:port/app"]
)
def test_a_malformed_url_is_refused_and_not_repeated(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("BENEFITS_DATABASE_URL", url)
    said = terminal(*RUN, "--json")
    assert_refused(said, 2, "BENEFITS_DATABASE_URL")
    assert "secret" not in said.out + said.err


def test_a_server_that_is_down_ends_with_3(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENEFITS_DATABASE_URL", "postgresql://ada:secret@127.0.0.1:1/app")
    said = terminal(*RUN, "--json")
    assert_refused(said, 3, "reached")
    assert "secret" not in said.out + said.err
    assert terminal("doctor", "--json").code == 3


def test_dagster_storage_that_is_down_ends_with_3_and_names_its_variable(
    terminal: Terminal, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", "postgresql://ada:secret@127.0.0.1:1/dagster")
    said = terminal(*RUN, "--json")
    assert_refused(said, 3, "DAGSTER_POSTGRES_URL")
    assert "secret" not in said.out + said.err
    assert app.tables() == set()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ('DROP TABLE "BenefitStatus"', ("BenefitStatus", "does not exist")),
        ('ALTER TABLE "Benefit" ALTER "startDate" TYPE timestamptz', ("Benefit.startDate",)),
        ('ALTER TABLE "CreditCard" DROP "openedDate"', ("CreditCard.openedDate",)),
        ('ALTER TABLE "BenefitStatus" ADD "points" integer NOT NULL', ()),
        ("unique key", ("unique key",)),
    ],
)
def test_a_schema_that_the_job_does_not_know_is_refused_by_name(
    terminal: Terminal, app: App, change: str, words: tuple[str, ...]
) -> None:
    if change == "unique key":
        (name,) = app.sql(
            "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid ="
            " '\"BenefitStatus\"'::regclass AND indisunique AND NOT indisprimary"
        )[0]
        change = f"DROP INDEX {name}"
    elif "NOT NULL" in change:
        app.sql('TRUNCATE "BenefitStatus"')
        words = ("BenefitStatus.points", "required")
    app.sql(change)
    assert_refused(terminal(*RUN, "--json"), 2, *words)
    assert terminal("doctor", "benefits").code == 2
    assert app.tables() == set()


def test_a_trigger_that_would_fire_is_refused_until_it_is_allowed_by_name(
    terminal: Terminal, app: App
) -> None:
    app.sql(
        "CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NEW; END$$;"
        'CREATE TRIGGER noted BEFORE INSERT ON "BenefitStatus" FOR EACH ROW'
        " EXECUTE FUNCTION noted()"
    )
    assert_refused(terminal(*RUN, "--json"), 2, "noted")
    assert terminal(*RUN, "--allow-trigger", "noted", "--json").json["state"] == "verified"


def test_a_read_only_database_is_refused(terminal: Terminal, app: App) -> None:
    name = app.sql("SELECT current_database()")[0][0]
    app.sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    assert_refused(terminal(*RUN, "--json"), 2, "read-only")
    assert app.tables() == set()


def test_a_missing_privilege_is_named_before_anything_starts(
    terminal: Terminal, app: App, monkeypatch: pytest.MonkeyPatch, worker_id: str
) -> None:
    role = as_role(app, f"reader_{worker_id}", monkeypatch)
    app.sql(f'GRANT SELECT ON ALL TABLES IN SCHEMA public TO "{role}"')
    assert_refused(terminal(*RUN, "--json"), 2, "INSERT", "BenefitStatus")
    assert app.tables() == set()


def test_rows_that_row_level_security_would_hide_are_a_refusal(
    terminal: Terminal, app: App, monkeypatch: pytest.MonkeyPatch, worker_id: str
) -> None:
    role = as_role(app, f"hidden_{worker_id}", monkeypatch)
    app.sql(f'GRANT ALL ON ALL TABLES IN SCHEMA public TO "{role}"')
    app.sql('ALTER TABLE "BenefitStatus" ENABLE ROW LEVEL SECURITY')
    assert_refused(terminal(*RUN, "--json"), 2, "row-level security", "BenefitStatus")


def test_an_option_that_is_not_one_is_refused_by_its_variable(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENEFITS_FIXED_CYCLES", "monthly")
    assert_refused(terminal(*RUN, "--json"), 2, "BENEFITS_FIXED_CYCLES")


def test_a_setting_that_is_not_one_is_refused_by_its_variable(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAINTENANCE_BATCH_ROWS", "lots")
    assert_refused(terminal(*RUN, "--json"), 2, "MAINTENANCE_BATCH_ROWS")


def test_what_nobody_foresaw_is_one_sentence_without_the_error_itself(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode() -> None:
        raise RuntimeError("postgresql://ada:secret@host/app")

    monkeypatch.setattr("maintenance_pipelines.commands.running.utc_now", explode)
    said = terminal(*RUN, "--json")
    assert_refused(said, 1, "RuntimeError", "--verbose")
    assert "secret" not in said.err
    assert "Traceback" in terminal(*RUN, "--verbose").err


def as_role(app: App, name: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Makes a role without privileges, in whose name the commands then work."""
    if not app.sql(f"SELECT FROM pg_roles WHERE rolname = '{name}'"):
        app.sql(f"CREATE ROLE \"{name}\" LOGIN PASSWORD 'secret'")
    url = re.sub(r"://[^/]*@", f"://{name}:secret@", os.environ["BENEFITS_DATABASE_URL"])
    monkeypatch.setenv("BENEFITS_DATABASE_URL", url)
    return name
