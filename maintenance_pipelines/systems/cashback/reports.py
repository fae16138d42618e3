"""Reports: what a migration would do and what it did, as Markdown for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from maintenance_pipelines.engine.runs import Run
from maintenance_pipelines.engine.verifying import Check
from maintenance_pipelines.systems.cashback.backup import Backup
from maintenance_pipelines.systems.cashback.detection import Detection
from maintenance_pipelines.systems.cashback.instance import TableChange

MEGABYTE = 1 << 20

NEXT = (
    "Start the application again if it was stopped; it finds the new tables by itself.",
    "Look at one page of cashback, and at the application's log.",
    "Fill in the cashback of loans and trackers in the application: nothing was inserted here.",
)


def before(instance: str, found: Detection, run: Run | None = None) -> str:
    """The dry run: the instance's state, what exists, and the exact statements for what does not.

    `found` may be unfit for a plan; its differences are listed then.
    """
    comparison = found.comparison
    missing = len(comparison.missing)
    parts = [
        f"# cashback_migration {instance}: {'plan' if run else 'detection'}",
        "A dry run: nothing was changed.",
        _facts(found, run),
        _list("Not as it has to be", [*comparison.lacking, *comparison.differences]),
        _list(f"Tables that already exist: {len(comparison.present)}", comparison.present),
        _list(f"Tables that would be created: {missing}", comparison.missing),
        _statements(found.creations),
        _rows("Rows of the tables that are there", found.rows),
    ]
    return _joined(parts)


def after(
    instance: str, found: Detection, run: Run, checks: Sequence[Check], backup: Backup | None
) -> str:
    """What was created, what already existed, every check, and what to do next."""
    created = [each.table for each in found.creations] if run.applied else []
    facts = _facts(found, run)
    copy = [f"{backup.path} ({backup.bytes / MEGABYTE:,.1f} MB, verified)"] if backup else []
    verdicts = [
        ("holds" if check.passed else "note" if check.warning else "FAILED", check.name, check.says)
        for check in checks
    ]
    parts = [
        f"# cashback_migration {instance}: {run.state.replace('_', ' ')}",
        facts,
        _list(f"Tables created: {len(created)}", created),
        _list(
            f"Already existed: {len(found.comparison.present)}",
            found.comparison.present or ["none of the six"],
        ),
        _list("Backup", copy),
        _table(("verdict", "check", "figures"), verdicts),
        _list("Offenders", [offender for check in checks for offender in check.sample]),
        _next(run, bool(created)),
    ]
    return _joined(parts)


def undone(undo: Run, at_stake: Mapping[str, int], changes: Sequence[TableChange]) -> str:
    """A rollback, planned or done: which tables it drops, the rows that stand in its way, and the
    files into which it has exported them.
    """
    parts = [
        f"# Rollback of run {undo.reverts} of {undo.label}: {undo.state}",
        _list(
            f"{'Tables to drop' if undo.state == 'planned' else 'Tables'}: {undo.planned}",
            [each.table for each in changes],
        ),
        _list("Already gone", [f"{undo.excluded.get('already_gone', 0)} tables"])
        if undo.excluded
        else "",
        _rows("Rows in them, which only a forced rollback destroys, after an export", at_stake)
        if at_stake
        else "",
        _list("Rows exported to", undo.options.get("exported", ())),
    ]
    return _joined(parts)


def _facts(found: Detection, run: Run | None) -> str:
    facts = [
        ("database", f"{found.kind}: {found.where}"),
        ("size", f"{found.size / MEGABYTE:,.1f} MB"),
        ("tables", f"{len(found.rows)}"),
        ("rows", f"{sum(found.rows.values()):,}"),
    ]
    if found.journal_mode:
        facts.append(("journal mode", f"{found.journal_mode}, which stays as it is"))
    if run is not None:
        facts += [
            ("run", run.id),
            ("planned by", run.planned_by),
            ("tables planned", str(run.planned)),
            ("digest", run.digest),
        ]
    return _table(("", "this instance"), facts)


def _statements(changes: Sequence[TableChange]) -> str:
    if not changes:
        return ""
    statements = [s for each in changes for s in (each.statement, *each.grants)]
    owners = sorted({each.owner for each in changes if each.owner})
    role = f" as {', '.join(owners)}" if owners else ""
    return f"**The statements{role}, in one transaction**\n\n```sql\n" + (
        ";\n\n".join(statements) + ";\n```"
    )


def _next(run: Run, created: bool) -> str:
    if run.state == "verified" and created:
        return _list(
            "What to do next",
            [
                *NEXT,
                f"To take it back: `./maintenance rollback {run.id[:8]}`, while they are empty.",
            ],
        )
    if run.state == "verified":
        return "**What to do next**: nothing; all six tables were there."
    return f"**What to do next**: read the failed checks; `./maintenance rollback {run.id[:8]}`."


def _rows(title: str, rows: Mapping[str, int]) -> str:
    counted = [(table, f"{count:,}") for table, count in rows.items()]
    return f"**{title}**\n\n{_table(('table', 'rows'), counted)}" if counted else ""


def _list(title: str, lines: Iterable[str]) -> str:
    lines = list(lines)
    return f"**{title}**\n\n" + "\n".join(f"- {line}" for line in lines) if lines else ""


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _joined(parts: Iterable[str]) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"
