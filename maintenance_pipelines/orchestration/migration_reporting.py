"""An instance, its backup and a rollback as Dagster's metadata."""

from __future__ import annotations

import dagster as dg

from maintenance_pipelines.engine.runs import Run
from maintenance_pipelines.orchestration.reporting import Metadata, identity
from maintenance_pipelines.systems.cashback.backup import Backup
from maintenance_pipelines.systems.cashback.detection import Detection


def instance(found: Detection) -> Metadata:
    """What an instance is like, in numbers."""
    comparison = found.comparison
    return {
        "database": dg.MetadataValue.text(f"{found.kind}: {found.where}"),
        "bytes": dg.MetadataValue.int(found.size),
        "tables": dg.MetadataValue.int(len(found.rows)),
        "rows": dg.MetadataValue.int(sum(found.rows.values())),
        "already_existed": dg.MetadataValue.int(len(comparison.present)),
        "differences": dg.MetadataValue.int(len(comparison.differences)),
        "lacking": dg.MetadataValue.int(len(comparison.lacking)),
    }


def backup(run: Run, made: Backup | None) -> Metadata:
    """A backup in numbers; of none where the plan changes nothing."""
    where = str(made.path) if made else "none is needed: the plan changes nothing"
    return {
        "backup": dg.MetadataValue.text(where),
        "bytes": dg.MetadataValue.int(made.bytes if made else 0),
        "tables": dg.MetadataValue.int(len(made.rows) if made else 0),
        "rows": dg.MetadataValue.int(sum(made.rows.values()) if made else 0),
        "backup_seconds": dg.MetadataValue.float(round(made.seconds, 3) if made else 0.0),
        **identity(run),
    }
