"""Statements that are asked for many times in a run."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from maintenance_pipelines.engine.job import Candidates, Scope


def built_once(build: Candidates) -> Candidates:
    """The same candidates; the statement over everybody is built once for each scope.

    Building one of this size takes longer than many an answer to it.
    """

    @lru_cache(maxsize=4)
    def of_everybody(scope: Scope) -> sa.Select[Any]:
        return build(scope, None)

    return lambda scope, among: of_everybody(scope) if among is None else build(scope, among)
