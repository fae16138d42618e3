"""What people look at of a system, as assets with a Markdown table; nothing is changed."""

import dagster as dg
from pydantic import Field

from maintenance_pipelines.orchestration.consistency import ConsistencyConfig, asked
from maintenance_pipelines.orchestration.endings import Results, refusals_fail_the_run
from maintenance_pipelines.orchestration.resources import Maintenance
from maintenance_pipelines.systems import registry
from maintenance_pipelines.systems.registry import View


class ViewConfig(ConsistencyConfig):
    """What is looked at, and of whom."""

    subject: str | None = Field(
        default=None, description="One member or creator, by id, where the view knows them."
    )


def view_asset(system: str, view: View) -> dg.AssetsDefinition:
    """The asset `<system>/<view>`."""

    @dg.asset(key=dg.AssetKey([system, view.name]), group_name=system, description=view.says)
    def look(
        context: dg.AssetExecutionContext,
        config: ViewConfig,
        maintenance: dg.ResourceParam[Maintenance],
    ) -> Results:
        with refusals_fail_the_run(), maintenance.database(system) as database:
            checks = registry.CHECKS[system]
            scope = asked(database, system, checks, config, maintenance)
            shown = view.shown(database, scope, config.subject)
            maintenance.watcher.report(shown)
            yield dg.MaterializeResult(metadata={"report": dg.MetadataValue.md(shown)})

    return look
