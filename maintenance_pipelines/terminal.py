"""What people see: log lines and progress on standard error, tables and reports on output."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.markdown import Markdown
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from maintenance_pipelines.engine.runs import Run


class Rate(ProgressColumn):
    """Rows a second."""

    def render(self, task: Task) -> Text:
        """The rate over the last seconds; nothing before the first batch."""
        rate = task.finished_speed or task.speed
        return Text("" if rate is None else f"{rate:,.0f} rows/s")


class Screen:
    """Watches one run for a person: a progress bar on a terminal, log lines anywhere.

    Keeps the last state of the run and the reports, for what is printed at the end.
    """

    def __init__(self) -> None:
        self.run_seen: Run | None = None
        self.reports: list[str] = []
        self.lists: dict[str, Sequence[Mapping[str, Any]]] = {}
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("rows"),
            Rate(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Screen:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def says(self, line: str) -> None:
        """Prints a log line, above the bar."""
        self._console.print(line, markup=False)

    def progress(self, done: int, total: int) -> None:
        """Moves the bar."""
        if self._task is None:
            label = self.run_seen.partition or self.run_seen.job if self.run_seen else ""
            self._bar.start()
            self._task = self._bar.add_task(label, total=total)
        self._bar.update(self._task, completed=done, total=total)

    def run(self, run: Run) -> None:
        """Remembers the run as it is now."""
        self.run_seen = run

    def report(self, markdown: str) -> None:
        """Keeps a report."""
        self.reports.append(markdown)

    def rows(self, what: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keeps rows that are listed one by one."""
        self.lists[what] = rows


def show_report(markdown: str) -> None:
    """A report: laid out on a terminal, as it is into a file."""
    if sys.stdout.isatty():
        Console().print(Markdown(markdown))
    else:
        print(markdown)


def show_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A plain table with one header line; numbers to the right."""
    rows = [tuple(row) for row in rows]
    table = Table(box=None, pad_edge=False, header_style="bold", show_header=any(columns))
    for index, column in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[index], int) for row in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(f"{cell:,}" if isinstance(cell, int) else str(cell or "") for cell in row))
    Console(highlight=False, width=None if sys.stdout.isatty() else 200).print(table)


def say(line: str) -> None:
    """A line on standard output."""
    print(line)


def complain(line: str) -> None:
    """A line on standard error."""
    print(line, file=sys.stderr)
