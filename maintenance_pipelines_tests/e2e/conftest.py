"""The fixtures that orchestration, commands and e2e share."""

from maintenance_pipelines_tests.orchestration.fixtures import (
    app,
    benefits_template,
    dagster_url,
    settings,
    terminal,
)

__all__ = ["app", "benefits_template", "dagster_url", "settings", "terminal"]
