"""The verbs on a migration: what they change, what they say, how they end."""

from __future__ import annotations

import csv
import subprocess
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from maintenance_pipelines.systems.cashback.schema import TABLES
from maintenance_pipelines_tests.commands.test_refusals import assert_refused
from maintenance_pipelines_tests.commands.test_running import KEYS
from maintenance_pipelines_tests.orchestration.fixtures import Terminal
from maintenance_pipelines_tests.orchestration.household import command, copy, environment
from maintenance_pipelines_tests.orchestration.lenders import MIGRATION, Lenders
from maintenance_pipelines_tests.support.clusters import Cluster
from maintenance_pipelines_tests.systems.cashback import app_models
from maintenance_pipelines_tests.systems.cashback.app_process import App
from maintenance_pipelines_tests.systems.cashback.lending import (
    Lending,
    postgres_contents,
    without,
)

RUN = ("run", MIGRATION, "--partition", "prod")
KINDS = ("delete", "wal", "postgres")


def use(lending: Lending) -> None:
    """What people then do: the new tables get their first rows."""
    engine = lending.engine()
    with Session(engine) as session:
        app_models.use_cashback(session)
    engine.dispose()


@pytest.mark.parametrize("kind", ["wal", "postgres"])
def test_plan_shows_the_statements_and_changes_not_one_byte(
    shell: Terminal, lenders: Lenders, kind: str
) -> None:
    prod = lenders.add("prod", kind)
    before, files = prod.contents(), prod.files() if kind != "postgres" else {}
    said = shell("plan", MIGRATION, "--partition", "prod")
    assert said.code == 0
    assert said.out.count("CREATE TABLE ") == 6
    assert "# cashback_migration prod: plan" in said.out
    assert "Next: ./maintenance apply " in said.out
    assert prod.contents() == before
    assert kind == "postgres" or prod.files() == files
    assert lenders.backups() == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_creates_the_tables_after_a_backup_and_proves_it(
    shell: Terminal, lenders: Lenders, kind: str
) -> None:
    prod = lenders.add("prod", kind)
    before = prod.contents()
    said = shell(*RUN, "--json")
    assert (said.code, said.json["state"], said.json["applied"]) == (0, "verified", 6)
    assert set(said.json) == KEYS | {"backups"}
    assert all(said.json["checks"].values())
    assert [Path(said.json["backups"][0]["path"])] == lenders.backups()
    assert without(prod.contents(), TABLES) == before
    assert set(TABLES) <= prod.tables()
    again = shell(*RUN, "--json")
    assert (again.code, again.json["state"], again.json["planned"]) == (0, "verified", 0)
    assert len(lenders.backups()) == 1


@pytest.mark.long
def test_log_lines_name_the_job_and_end_with_the_result(shell: Terminal, lenders: Lenders) -> None:
    lenders.add()
    lines = shell(*RUN).err.splitlines()
    assert lines[0] == "[cashback-migration] Looking at prod"
    assert "[cashback-migration] Created 6 of 6 tables in " in "\n".join(lines)
    assert lines[-1].startswith('[cashback-migration] Result: {"run_id": ')


@pytest.mark.long
def test_what_was_planned_is_what_apply_applies(shell: Terminal, lenders: Lenders) -> None:
    lenders.add()
    planned = shell("plan", *RUN[1:], "--json").json
    wrong = shell("apply", planned["run_id"], "--digest", "0" * 64, "--json")
    assert (wrong.code, wrong.json["state"]) == (1, "planned")
    said = shell("apply", planned["run_id"][:6], "--digest", planned["digest"], "--json")
    assert (said.code, said.json["state"], said.json["run_id"]) == (
        0,
        "verified",
        planned["run_id"],
    )


@pytest.mark.long
def test_a_rehearsal_leaves_no_table_and_makes_no_backup(shell: Terminal, lenders: Lenders) -> None:
    prod = lenders.add()
    before = prod.contents()
    said = shell(*RUN, "--rehearse", "--json")
    assert (said.code, said.json["rehearsed"], said.json["state"]) == (0, True, "planned")
    assert prod.contents() == before
    assert lenders.backups() == []


def test_all_are_the_instances_that_have_an_address_and_one_that_is_unfit_stops_no_other(
    shell: Terminal, lenders: Lenders
) -> None:
    prod = lenders.add("prod")
    older = lenders.add("testing", "wal", ["user", "loan", "payment"])
    before = older.contents()
    said = shell("run", MIGRATION, "--partition", "all", "--json")
    first, second = said.json["runs"]
    assert said.code == 2
    assert (first["partition"], first["state"]) == ("prod", "verified")
    assert (second["partition"], second["exit_code"]) == ("testing", 2)
    assert "table daily_tracker does not exist" in second["error"]
    assert set(TABLES) <= prod.tables()
    assert older.contents() == before


def test_only_the_instance_that_is_named_is_touched(shell: Terminal, lenders: Lenders) -> None:
    lenders.add("prod")
    dev = lenders.add("dev", "wal")
    before = dev.files()
    assert shell(*RUN).code == 0
    assert dev.files() == before


def test_no_instance_is_touched_where_none_is_named(shell: Terminal, lenders: Lenders) -> None:
    lenders.add()
    assert_refused(shell("run", MIGRATION, "--json"), 2, "--partition", "prod, dev, testing")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", MIGRATION, "--partition", "production"), ("'production'", "prod, dev, testing")),
        (("run", MIGRATION, "--partition", "dev"), ("CASHBACK_DEV_DATABASE_URL is not set",)),
        ((*RUN, "--allow-trigger", "audit"), ("no trigger can fire",)),
        ((*RUN, "--user", "7"), ("not about people",)),
        (("grants", MIGRATION), ("no grants to print", "owner")),
        (("check", "cashback"), ("cashback",)),
        (("verify", MIGRATION), ("--partition",)),
        (("restore", MIGRATION), ("--partition",)),
        (("restore", MIGRATION, "--partition", "prod"), ("--backup", "there is none of prod")),
        (("restore", MIGRATION, "--partition", "dev"), ("CASHBACK_DEV_DATABASE_URL",)),
        (
            ("restore", MIGRATION, "--partition", "prod", "--backup", "nothing.db"),
            ("There is no backup", "nothing.db"),
        ),
        (("restore", "benefit_status_backfill"), ("makes no backups",)),
    ],
    ids=" ".join,
)
def test_what_means_nothing_is_refused_in_one_sentence(
    shell: Terminal, lenders: Lenders, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    prod = lenders.add()
    before = prod.files()
    assert_refused(shell(*arguments, "--json"), 2, *words)
    assert prod.files() == before


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("sqlite:///instance/lending.db", "relative path"),
        ("sqlite://fileserver/lending.db", "another host"),
        ("mysql://ada:secret@host/app", "neither an SQLite file nor a PostgreSQL database"),
        ("sqlite:////nowhere/lending.db", "there is no file"),
        ("postgresql://ada:secret@host:port/app", "cannot be read as an address"),
    ],
)
def test_an_address_that_will_not_do_is_refused_without_being_repeated(
    shell: Terminal, lenders: Lenders, monkeypatch: pytest.MonkeyPatch, url: str, word: str
) -> None:
    monkeypatch.setenv("CASHBACK_PROD_DATABASE_URL", url)
    said = shell(*RUN, "--json")
    assert said.code == 2
    assert word in said.json["error"]
    assert "secret" not in said.out + said.err


def test_a_server_that_is_down_ends_with_3(
    shell: Terminal, lenders: Lenders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CASHBACK_PROD_DATABASE_URL", "postgresql://ada:secret@127.0.0.1:1/app")
    said = shell(*RUN, "--json")
    assert said.code == 3
    assert "secret" not in said.out + said.err


@pytest.mark.long
def test_two_names_for_one_database_are_refused(
    shell: Terminal, lenders: Lenders, monkeypatch: pytest.MonkeyPatch
) -> None:
    prod = lenders.add()
    monkeypatch.setenv("CASHBACK_DEV_DATABASE_URL", prod.url.replace("sqlite:", "sqlite+pysqlite:"))
    said = shell(*RUN, "--json")
    assert said.code == 2
    assert "name the same database" in said.json["error"]


def test_a_locked_database_is_refused_with_advice_and_the_plan_can_still_be_applied(
    shell: Terminal, lenders: Lenders
) -> None:
    prod = lenders.add("prod", "wal")
    planned = shell("plan", *RUN[1:], "--json").json
    with App(prod.url) as app:
        app.tell("begin", "write")
        said = shell("apply", planned["run_id"], "--json")
        app.tell("rollback")
    assert (said.code, said.json["state"]) == (1, "planned")
    assert "stop the application and try again" in said.json["error"]
    assert shell("apply", planned["run_id"], "--json").json["state"] == "verified"


@pytest.mark.long
def test_a_plan_of_unexpectedly_few_tables_is_not_applied(
    shell: Terminal, lenders: Lenders
) -> None:
    prod = lenders.add("prod", "delete", [*app_models.BEFORE, *TABLES[:5]])
    before = prod.files()
    said = shell(*RUN, "--expected-rows", "6", "--json")
    assert (said.code, said.json["planned"], said.json["state"]) == (1, 1, "planned")
    assert prod.files() == before
    assert shell(*RUN, "--expected-rows", "1", "--json").json["applied"] == 1


@pytest.mark.long
def test_an_approval_is_asked_for_before_a_backup_is_made(
    shell: Terminal, lenders: Lenders, monkeypatch: pytest.MonkeyPatch
) -> None:
    lenders.add()
    monkeypatch.setenv("CASHBACK_APPROVAL_ABOVE", "0")
    said = shell(*RUN, "--json")
    assert (said.code, said.json["approval_due"]) == (1, True)
    assert lenders.backups() == []
    assert shell("approve", said.json["run_id"]).code == 1
    monkeypatch.setenv("MAINTENANCE_OPERATOR", "grace")
    assert shell("approve", said.json["run_id"], "--json").json["approved_by"] == "grace"
    assert shell("apply", said.json["run_id"], "--json").json["state"] == "verified"


@pytest.mark.parametrize("kind", ["wal", pytest.param("postgres", marks=pytest.mark.long)])
def test_a_rollback_drops_the_tables_of_the_run_and_nothing_else(
    shell: Terminal, lenders: Lenders, kind: str
) -> None:
    prod = lenders.add("prod", kind)
    before = prod.contents()
    run = shell(*RUN, "--json").json["run_id"]
    planned = shell("rollback", run, "--plan", "--json")
    assert (planned.code, planned.json["state"], planned.json["planned"]) == (0, "planned", 6)
    assert set(TABLES) <= prod.tables()
    said = shell("rollback", run[:8], "--json")
    assert (said.code, said.json["run_id"], said.json["state"]) == (0, run, "rolled_back")
    assert prod.contents() == before
    again = shell("rollback", run, "--json")
    assert again.json["error"] == f"Run {run} has already been rolled back."
    assert shell(*RUN, "--json").json["applied"] == 6


@pytest.mark.parametrize("kind", ["delete", pytest.param("postgres", marks=pytest.mark.long)])
def test_a_rollback_that_would_destroy_rows_has_to_be_forced_and_exports_them(
    shell: Terminal, lenders: Lenders, kind: str
) -> None:
    prod = lenders.add("prod", kind)
    run = shell(*RUN, "--json").json["run_id"]
    use(prod)
    before = prod.contents()
    shown = shell("rollback", run, "--plan", "--json").json
    at_stake = {each["table"]: each["rows"] for each in shown["rows_at_stake"]}
    assert at_stake == {t: len(before["rows"][t]) for t in TABLES if before["rows"][t]}
    refused = shell("rollback", run, "--json")
    assert (refused.code, prod.contents()) == (1, before)
    assert "hold rows by now" in refused.json["error"]
    forced = shell("rollback", run, "--force")
    assert forced.code == 0
    assert not set(TABLES) & prod.tables()
    files = {path.stem: path for path in (lenders.home / "exports" / "prod").rglob("*.csv")}
    assert set(files) == set(at_stake)
    assert all(str(path) in forced.out for path in files.values())
    for table, path in files.items():
        with path.open(newline="") as file:
            assert len(list(csv.reader(file))) == at_stake[table] + 1


def test_restore_puts_a_backup_in_place_and_keeps_what_was_there(
    shell: Terminal, lenders: Lenders
) -> None:
    prod = lenders.add("prod", "wal")
    before = prod.contents()
    shell(*RUN)
    use(prod)
    (backup,) = lenders.backups()
    asked = shell("restore", MIGRATION, "--partition", "prod", "--json")
    assert str(backup) in asked.json["error"]
    with App(prod.url) as app:
        app.tell("begin", "read")
        busy = shell("restore", *RUN[1:], "--backup", backup.name, "--json")
    assert busy.code == 1
    assert "stop the application first" in busy.json["error"]
    said = shell("restore", *RUN[1:], "--backup", backup.name, "--json")
    assert (said.code, said.json["restored"]) == (0, str(prod.path))
    assert Path(said.json["kept"]).is_file()
    assert prod.contents() == before
    assert shell(*RUN, "--json").json["applied"] == 6


@pytest.mark.long
def test_restore_on_postgresql_makes_a_new_database(
    shell: Terminal, lenders: Lenders, server: Cluster
) -> None:
    prod = lenders.add("prod", "postgres")
    shell(*RUN)
    used = prod.contents()
    (backup,) = lenders.backups()
    said = shell("restore", *RUN[1:], "--backup", str(backup))
    assert said.code == 0
    assert "_restored_" in said.out
    assert "Point the application to" in said.out
    assert prod.contents() == used
    database = said.out.split(" is restored as ")[1].split(";")[0]
    server.drop(database)


@pytest.mark.long
def test_a_run_is_about_the_file_that_it_was_planned_for(
    shell: Terminal, lenders: Lenders, monkeypatch: pytest.MonkeyPatch
) -> None:
    lenders.add("prod")
    run = shell(*RUN, "--json").json["run_id"]
    other = lenders.add("dev")
    monkeypatch.delenv("CASHBACK_DEV_DATABASE_URL")
    monkeypatch.setenv("CASHBACK_PROD_DATABASE_URL", other.url)
    before = other.contents()
    for verb in (("verify", *RUN[1:]), ("rollback", run)):
        said = shell(*verb, "--json")
        assert said.code == 1
        assert "set it back" in said.json["error"]
    assert other.contents() == before
    assert shell(*RUN, "--json").json["applied"] == 6


@pytest.mark.long
def test_runs_of_files_and_of_databases_are_listed_and_pruned_together(
    shell: Terminal, lenders: Lenders
) -> None:
    lenders.add("prod")
    lenders.add("dev", "postgres")
    assert shell("install", "cashback", "--json").json["system"] == "cashback"
    assert shell("runs", "--json").json == {"runs": []}
    shell("run", MIGRATION, "--partition", "all")
    listed = shell("runs", "--job", MIGRATION, "--json").json["runs"]
    assert [(run["partition"], run["state"]) for run in listed] == [
        ("dev", "verified"),
        ("prod", "verified"),
    ]
    for run in listed:
        shown = shell("runs", run["run_id"][:6], "--json").json
        assert (shown["run_id"], shown["failures"]) == (run["run_id"], [])
    pruned = shell("prune", "--days", "0", "--json").json["pruned"]["cashback"]
    assert sorted(pruned) == sorted(run["run_id"] for run in listed)
    for run in pruned:
        said = shell("rollback", run)
        assert said.code == 1
        assert "pruned" in said.sentence


def test_jobs_tells_its_instances_and_its_kind(shell: Terminal) -> None:
    (job,) = [each for each in shell("jobs", "--json").json["jobs"] if each["job"] == MIGRATION]
    assert (job["partitions"], job["change"]) == ("instances prod, dev, testing", "add tables")
    assert job["schedule"] is None


@pytest.mark.long
def test_the_ledger_that_came_along_with_a_copy_of_a_database_is_not_the_copys_own(
    shell: Terminal, lenders: Lenders, server: Cluster, worker_id: str
) -> None:
    prod = lenders.add("prod", "postgres")
    run = shell("plan", *RUN[1:], "--json").json["run_id"]
    prod.ledger.dispose()
    name = f"copy_{worker_id}"
    url = copy(server, str(prod.ledger.engine.url.database), name)
    lenders.patch.setenv("CASHBACK_DEV_DATABASE_URL", url)
    try:
        listed = shell("runs", "--json").json["runs"]
        assert [each["partition"] for each in listed] == ["prod"]
        assert shell("apply", run, "--json").json["state"] == "verified"
        # The copy still says planned.
        assert shell("runs", run, "--json").json["state"] == "verified"
        assert set(TABLES) <= prod.tables()
        assert not set(TABLES) & set(postgres_contents(url)["rows"])
    finally:
        server.drop(name)


@pytest.mark.long
def test_verify_looks_again_even_where_nothing_had_to_be_created(
    shell: Terminal, lenders: Lenders
) -> None:
    prod = lenders.add("prod", "delete", [*app_models.BEFORE, *TABLES])
    assert shell(*RUN, "--json").json["planned"] == 0
    assert shell("verify", *RUN[1:], "--json").json["state"] == "verified"
    prod.execute(f"DROP TABLE {TABLES[5]}")
    said = shell("verify", *RUN[1:], "--json")
    assert (said.code, said.json["state"]) == (1, "failed")
    assert "nothing_left_missing" in said.json["error"]


def test_doctor_says_what_would_be_done_and_touches_nothing(
    shell: Terminal, lenders: Lenders
) -> None:
    prod = lenders.add("prod", "wal")
    lenders.add("dev", "postgres")
    older = lenders.add("testing", "delete", ["user", "loan", "payment"])
    before = prod.files(), older.files()
    said = shell("doctor", "cashback")
    assert said.code == 2
    assert "ok    cashback_migration prod: would create 6 tables in SQLite" in said.out
    assert "ok    cashback_migration dev: would create 6 tables in PostgreSQL" in said.out
    assert "WRONG CASHBACK_TESTING_DATABASE_URL: testing is not ready" in said.out
    assert (prod.files(), older.files()) == before
    assert shell("doctor", "--json").json["exit_code"] == 2


def test_nothing_configured_is_refused_by_every_variable(shell: Terminal) -> None:
    said = shell("run", MIGRATION, "--partition", "all", "--json")
    assert_refused(said, 2, *(f"CASHBACK_{n}_DATABASE_URL" for n in ("PROD", "DEV", "TESTING")))


@pytest.mark.long
def test_of_two_processes_at_once_one_migrates(shell: Terminal, lenders: Lenders) -> None:
    prod = lenders.add("prod")
    shell("runs")
    both = [
        subprocess.Popen(
            command(*RUN, "--json"),
            env=environment({}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    ended = [process.communicate(timeout=120) for process in both]
    assert {process.returncode for process in both} <= {0, 1}, ended
    assert 0 in {process.returncode for process in both}, ended
    assert set(TABLES) <= prod.tables()
    applied = [run for run in shell("runs", "--json").json["runs"] if run["applied"]]
    assert [run["state"] for run in applied] == ["verified"]


@pytest.mark.long
def test_the_demo_migrates_a_file_of_its_own_and_can_be_repeated(
    shell: Terminal, lenders: Lenders, tmp_path: Path
) -> None:
    real = lenders.add()
    before = real.files()
    for _ in range(2):
        said = shell("demo", MIGRATION, "--data", str(tmp_path / "demo"))
        assert said.code == 0, said.err
    assert "# cashback_migration prod: plan" in said.out
    assert "# cashback_migration prod: verified" in said.out
    path = tmp_path / "demo" / "instances" / "prod" / "database" / "lending_app_prod.db"
    assert path.is_file()
    assert f"CASHBACK_PROD_DATABASE_URL=sqlite:///{path} ./maintenance rollback " in said.out
    assert real.files() == before
    assert lenders.backups() == []
    (line,) = [line for line in said.out.splitlines() if line.endswith("./maintenance runs")]
    for given in line.split()[:-2]:
        name, _, value = given.partition("=")
        lenders.patch.setenv(name, value)
    (run,) = shell("runs", "--json").json["runs"]
    assert shell("rollback", run["run_id"], "--json").json["state"] == "rolled_back"
