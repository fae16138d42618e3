"""The log's last line of a job, with the keys that the source document gives it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from maintenance_pipelines.engine.job import Scope


def stamped(scope: Scope, **keys: Any) -> Mapping[str, Any]:
    """The keys, and `timestamp`: the job's now, in ISO 8601."""
    return {**keys, "timestamp": scope.as_of.isoformat()}
