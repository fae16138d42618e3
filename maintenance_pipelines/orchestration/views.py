"""What people look at of a system, as assets with a Markdown table; nothing is changed."""

from collections.abc import Iterator

import dagster as dg

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.orchestration.consistency import ConsistencyConfig, asked
from maintenance_pipelines.orchestration.endings import refusals_fail_the_run
from maintenance_pipelines.orchestration.resources import Maintenance
from maintenance_pipelines.systems import registry
from maintenance_pipelines.systems.registry import View

Results = Iterator[dg.MaterializeResult[None]]


def view_asset(system: str, view: View) -> dg.AssetsDefinition:
    """The asset `<system>/<view>`."""

    @dg.asset(key=dg.AssetKey([system, view.name]), group_name=system, description=view.says)
    def look(
        context: dg.AssetExecutionContext,
        config: ConsistencyConfig,
        maintenance: dg.ResourceParam[Maintenance],
    ) -> Results:
        with refusals_fail_the_run(), maintenance.database(system) as database:
            shown = show(database, system, view, config, maintenance)
            maintenance.watcher.report(shown)
            yield dg.MaterializeResult(metadata={"report": dg.MetadataValue.md(shown)})

    return look


def show(
    database: Database,
    system: str,
    view: View,
    config: ConsistencyConfig,
    maintenance: Maintenance,
) -> str:
    """A view of a system's data as Markdown."""
    checks = registry.CHECKS[system]
    return view.markdown(database, asked(database, system, checks, config, maintenance))
