"""Detection: what an instance is like, and what a migration would create there."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.engine.refusals import Misconfigured
from maintenance_pipelines.systems.cashback import shapes
from maintenance_pipelines.systems.cashback.compare import Comparison, compare
from maintenance_pipelines.systems.cashback.instance import Instance, TableChange
from maintenance_pipelines.systems.cashback.schema import PARENTS, TABLES


@dataclass(frozen=True)
class Detection:
    """The state of an instance at one moment, and the tables that it lacks.

    `rows` counts those of every table, `definitions` has a digest of everything that is defined.
    """

    kind: str
    where: str
    journal_mode: str | None
    size: int
    rows: Mapping[str, int]
    definitions: Mapping[str, str]
    comparison: Comparison
    creations: tuple[TableChange, ...]

    def json(self) -> dict[str, Any]:
        """What the ledger keeps of it; the statements are in the plan itself."""
        state = asdict(self)
        del state["creations"]
        return state

    @classmethod
    def from_json(cls, kept: Mapping[str, Any], creations: tuple[TableChange, ...]) -> Detection:
        """A detection as the ledger has kept it."""
        parts = {name: tuple(texts) for name, texts in kept["comparison"].items()}
        return cls(**{**kept, "comparison": Comparison(**parts)}, creations=creations)


def detect(instance: Instance) -> Detection:
    """Looks at an instance without changing it; differences are found, not refused."""

    def look(connection: sa.Connection) -> Detection:
        comparison = compare(connection, instance.schema)
        fit = not (comparison.lacking or comparison.differences)
        missing = comparison.missing if fit else ()
        return Detection(
            kind=instance.kind,
            where=instance.where,
            journal_mode=None,
            size=instance.size(connection),
            rows=dict(count_rows(connection, instance.schema)),
            definitions=instance.definitions(connection),
            comparison=comparison,
            creations=tuple(instance.creations(connection, missing)),
        )

    found = instance.read(look)
    # Only now: it reads the file itself, for which no lock on it may be held.
    return Detection(**{**vars(found), "journal_mode": instance.journal_mode()})


class Unfit(Misconfigured):
    """An instance whose tables are not as they have to be; `found` has every difference."""

    def __init__(self, sentence: str, found: Detection) -> None:
        super().__init__(sentence)
        self.found = found


def demand_fit(instance: Instance, found: Detection) -> None:
    """Refuses an instance whose tables are not as they have to be, naming every difference."""
    comparison = found.comparison
    if comparison.lacking:
        raise Unfit(
            f"{instance.name} is not ready for cashback: {'; '.join(comparison.lacking)}. The "
            "application's own migrations have to create what is missing first; nothing was "
            "written.",
            found,
        )
    if comparison.differences:
        raise Unfit(
            f"{instance.name} has tables of cashback that are not as defined: "
            f"{'; '.join(comparison.differences)}. Nothing was written: existing tables are never "
            "altered.",
            found,
        )


def count_rows(connection: sa.Connection, schema: str | None) -> Iterator[tuple[str, int]]:
    """Every table of the application and how many rows it has, by name."""
    quote = connection.dialect.identifier_preparer.quote
    for name, kind in sorted(shapes.relations(connection, schema).items()):
        if kind.startswith("table") and not name.startswith("sqlite_"):
            relation = f"{quote(schema)}.{quote(name)}" if schema else quote(name)
            rows = connection.execute(sa.text(f"SELECT count(*) FROM {relation}"))
            yield name, rows.scalar_one()


def relied_on(where: str, definitions: Mapping[str, str]) -> str:
    """A digest of what a plan relies on: where it was made, the parents, the six as they were."""
    names = {*PARENTS, *TABLES}
    relevant = {n: d for n, d in definitions.items() if re.split("[ .]", n.lower())[-1] in names}
    spelled = json.dumps([where, relevant], sort_keys=True)
    return hashlib.sha256(spelled.encode()).hexdigest()
