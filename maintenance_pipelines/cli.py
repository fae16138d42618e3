"""The command line. What the verbs do is in `commands/`; here is what they have in common."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from typing import Any

import typer
from sqlalchemy.exc import DBAPIError

from maintenance_pipelines import terminal
from maintenance_pipelines.commands import (
    alerting,
    checking,
    deciding,
    examining,
    exporting,
    keeping,
    looking,
    mailing,
    restoring,
    running,
)
from maintenance_pipelines.commands.outcomes import print_json
from maintenance_pipelines.engine.refusals import Refusal
from maintenance_pipelines.orchestration.sentences import refusal_of

UsageError: Any = typer.BadParameter.__base__
"""What typer raises for a command line that it can't read; it exports only the subclass."""

app = typer.Typer(
    name="maintenance",
    help="Maintenance on live databases: planned, applied, proved, and undone if need be.",
    epilog="Exit codes: 0 done, or nothing to do; 1 partial, failed, or refused by a guard; "
    "2 bad input or configuration; 3 database unreachable.",
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
)

PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
app.command()(keeping.demo)
app.command()(keeping.up)
app.command(context_settings=PASS_ON)(keeping.test)
app.command()(looking.jobs)
app.command()(examining.doctor)
app.command()(checking.check)
app.command()(keeping.install)
app.command()(looking.grants)
app.command()(running.plan)
app.command()(running.apply)
app.command()(running.run)
app.command()(running.verify)
app.command()(deciding.approve)
app.command()(deciding.rollback)
app.command()(restoring.restore)
app.command()(deciding.pause)
app.command()(running.resume)
app.command()(deciding.cancel)
app.command("runs")(looking.runs_)
app.command()(alerting.alerts)
app.command()(alerting.watch)
app.command()(alerting.health)
app.command()(exporting.export)
app.command()(mailing.send)
app.command()(checking.view)
app.command()(keeping.prune)


def main() -> None:
    """The entry point of `./maintenance` and of the console script."""
    sys.exit(execute(sys.argv[1:]))


def execute(arguments: Sequence[str]) -> int:
    """Carries out a command line and returns its exit code; see the epilog of the help."""
    as_json, verbose = "--json" in arguments, "--verbose" in arguments
    try:
        return int(app(list(arguments), prog_name="maintenance", standalone_mode=False) or 0)
    except Refusal as refusal:
        return _refuse(str(refusal), refusal.exit_code, as_json)
    except DBAPIError as error:
        retold = refusal_of(error)
        return _refuse(str(retold), retold.exit_code, as_json)
    except UsageError as error:
        return _refuse(error.format_message(), 2, as_json)
    except (KeyboardInterrupt, typer.Abort):
        return _refuse("Interrupted.", 1, as_json)
    except Exception as error:
        if verbose:
            traceback.print_exc()
            return _refuse(f"Unexpected {type(error).__name__}.", 1, as_json)
        # Its text may hold anything, an address or a row of the app's included.
        says = f"Unexpected {type(error).__name__}; the same with --verbose shows where."
        return _refuse(says, 1, as_json)


def _refuse(sentence: str, exit_code: int, as_json: bool) -> int:
    if as_json:
        print_json({"error": sentence, "exit_code": exit_code})
    terminal.complain(sentence)
    return exit_code


if __name__ == "__main__":
    main()
