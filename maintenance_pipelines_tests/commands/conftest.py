"""The fixtures that orchestration, commands and e2e share, and referrals' databases."""

from maintenance_pipelines_tests.orchestration.fixtures import (
    app,
    benefits_template,
    dagster_url,
    settings,
    terminal,
)
from maintenance_pipelines_tests.orchestration.lenders import lenders, shell
from maintenance_pipelines_tests.systems.referrals.conftest import healthy, stale

__all__ = [
    "app",
    "benefits_template",
    "dagster_url",
    "healthy",
    "lenders",
    "settings",
    "shell",
    "stale",
    "terminal",
]
