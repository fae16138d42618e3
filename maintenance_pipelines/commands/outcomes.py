"""What a command came to: JSON for programs, a few lines for people, an exit code for both."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from maintenance_pipelines import terminal
from maintenance_pipelines.engine.refusals import Refusal
from maintenance_pipelines.engine.runs import Run

COMMAND = "./maintenance"


@dataclass(frozen=True)
class Outcome:
    """One run after a command; `refusal` is why the command did not get its way.

    The keys of `json` are a promise to other programs: `run_id`, `job`, `partition`, `state`,
    `digest`, `as_of` (ISO 8601, UTC), `planned_by`, `approval_due`, `approved_by`, `held`,
    `error` (None where all is well), `seconds` (the engine's), `rehearsed`; the numbers of rows
    `planned`, `applied`, `skipped`, `conflicts`, `failed`, `appeared_since`, `touched_since`;
    `excluded` (reason: candidates) and `checks` (name: whether it holds). With a refusal `error`
    is its sentence and there is `exit_code`; before there is a run, these two are all there is.
    `failures` and `left_alone` list rows one by one, the first hundred, where there are any; a
    migration lists its `backups`, and before a rollback the `rows_at_stake` by table. Of several
    partitions each one has its `partition`, a run or not.
    """

    run: Run | None
    refusal: Refusal | None = None
    rehearsed: bool = False
    label: str = ""
    lists: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """0 where all is well, else the refusal's."""
        return 0 if self.refusal is None else self.refusal.exit_code

    def json(self) -> dict[str, Any]:
        """The keys promised to programs."""
        known = {} if self.run is None else {**self.run.json(), "rehearsed": self.rehearsed}
        known |= self.lists
        if self.refusal is None:
            return known
        return known | {"error": str(self.refusal), "exit_code": self.exit_code}


def print_json(value: Any) -> None:
    """One JSON object on standard output."""
    print(json.dumps(value, default=str))


def conclude(
    outcomes: Sequence[Outcome], *, as_json: bool, several: bool = False, hint: bool = True
) -> int:
    """Prints what the runs came to, with the next command where `hint`; returns the exit code.

    It is the worst of all the runs'.
    """
    if as_json:
        each_one = [{"partition": each.label, **each.json()} for each in outcomes]
        print_json({"runs": each_one} if several else outcomes[0].json())
        for each in outcomes:
            _complain(each)
    elif several:
        _show_many(outcomes)
    else:
        _show_one(outcomes[0], hint)
    return max((each.exit_code for each in outcomes), default=0)


def figures(run: Run, rehearsed: bool = False) -> list[tuple[str, object]]:
    """The main figures of a run, for a table of two columns."""
    json_ = run.json()
    rows: list[tuple[str, object]] = [
        ("run", json_["run_id"]),
        ("job", run.label),
        ("state", json_["state"] + (", rehearsed" if rehearsed else "")),
        ("planned", f"{run.planned:,}"),
    ]
    if rehearsed:
        return [*rows, ("would fail", f"{run.failed:,}")]
    if run.state != "planned":
        names = ("applied", "skipped", "conflicts", "failed", "appeared_since", "touched_since")
        rows += [(name.replace("_", " "), f"{getattr(run, name):,}") for name in names]
    rows += [(f"left alone: {why}", f"{n:,}") for why, n in sorted(run.excluded.items())]
    if run.checks:
        broken = [name for name, passed in run.checks.items() if not passed]
        rows.append(("checks", ", ".join(broken) if broken else f"all {len(run.checks)} hold"))
    return [*rows, ("digest", run.digest[:16]), ("seconds", f"{run.seconds:.2f}")]


def next_step(run: Run) -> str | None:
    """The command that a person would type next."""
    name = (run.reverts or run.id)[:8]
    if run.reverts and run.state == "planned":
        return f"{COMMAND} rollback {name}"
    if run.approval_due:
        return f"{COMMAND} approve {name}   (as a second person)"
    if run.state == "planned" and run.planned:
        return f"{COMMAND} apply {name} --digest {run.digest[:16]}"
    if run.state in ("paused", "interrupted", "partial", "applied"):
        return f"{COMMAND} resume {name}"
    if run.state == "verified" and run.planned and not run.reverts:
        return f"{COMMAND} rollback {name} --plan   (should you want it back as it was)"
    return None


def _show_one(outcome: Outcome, hint: bool) -> None:
    run = outcome.run
    if run is not None:
        terminal.show_table(("", ""), figures(run, outcome.rehearsed))
    _complain(outcome)
    if hint and run is not None and (step := next_step(run)) is not None:
        terminal.say(f"Next: {step}")


def _complain(outcome: Outcome) -> None:
    if outcome.refusal is not None:
        terminal.complain(str(outcome.refusal))


def _show_many(outcomes: Sequence[Outcome]) -> None:
    terminal.show_table(
        ("partition", "run", "state", "planned", "applied", "failed", ""),
        [
            (
                each.label,
                each.run.id[:8] if each.run else "",
                each.run.json()["state"] if each.run else "",
                each.run.planned if each.run else 0,
                each.run.applied if each.run else 0,
                each.run.failed if each.run else 0,
                str(each.refusal or ""),
            )
            for each in outcomes
        ],
    )
