"""The fixtures that orchestration, commands and e2e share."""

from maintenance_pipelines_tests.orchestration.fixtures import (
    app,
    benefits_template,
    dagster_url,
    settings,
    terminal,
)
from maintenance_pipelines_tests.orchestration.lenders import lenders, shell

__all__ = ["app", "benefits_template", "dagster_url", "lenders", "settings", "shell", "terminal"]
