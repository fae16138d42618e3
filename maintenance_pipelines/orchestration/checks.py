"""The asset checks of a job: their names beforehand, their results afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import dagster as dg

from maintenance_pipelines.engine.job import Job
from maintenance_pipelines.engine.runs import Run
from maintenance_pipelines.engine.verifying import (
    SCOPE,
    WORTH_KNOWING,
    Check,
    Verification,
    must_hold,
)


def scope_spec(asset: dg.AssetKey) -> dg.AssetCheckSpec:
    """The check on detection: as many rows as somebody expected. Blocking."""
    return dg.AssetCheckSpec(
        SCOPE,
        asset=asset,
        blocking=True,
        description="The number of planned rows lies within the bounds given in the config.",
    )


def scope_result(run: Run) -> dg.AssetCheckResult:
    """Whether a plan lies within its bounds; without bounds it does."""
    return dg.AssetCheckResult(
        check_name=SCOPE,
        passed=run.within_scope,
        description=scope_sentence(run),
        metadata={"planned": run.planned, **_bounds(run), **_identity(run)},
    )


def verification_specs(job: Job, asset: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """The checks on verification: what must hold blocks, what is worth knowing warns."""
    worth_knowing = WORTH_KNOWING | {
        r.name: r.says for r in job.all_rules if r.severity == "warning"
    }
    return specs(asset, must_hold(job), worth_knowing)


def specs(
    asset: dg.AssetKey, blocking: Mapping[str, str], worth_knowing: Mapping[str, str]
) -> list[dg.AssetCheckSpec]:
    """Checks by name and what they say: those that block, and those that only warn."""
    return [
        dg.AssetCheckSpec(name, asset=asset, blocking=name in blocking, description=says)
        for name, says in {**blocking, **worth_knowing}.items()
    ]


def verification_results(
    specs: Iterable[dg.AssetCheckSpec], verification: Verification
) -> list[dg.AssetCheckResult]:
    """A result for each check that was declared; one that was not evaluated has failed.

    A plan without rows was verified by the statement that made it, so all its checks hold but
    those that were evaluated all the same.
    """
    found = {check.name: check for check in verification.checks}
    if verification.run.planned == 0:
        nothing = "Nothing was planned: the plan's own statement was the verification."
        found = {spec.name: Check(spec.name, True, nothing) for spec in specs} | found
    return [result(spec, found.get(spec.name), verification.run) for spec in specs]


def result(spec: dg.AssetCheckSpec, check: Check | None, run: Run) -> dg.AssetCheckResult:
    """The result of a check that was declared; one that was not evaluated has failed."""
    check = check or Check(spec.name, False, "could not be evaluated")
    return dg.AssetCheckResult(
        check_name=spec.name,
        passed=check.passed,
        severity=dg.AssetCheckSeverity.ERROR if spec.blocking else dg.AssetCheckSeverity.WARN,
        description=check.says,
        metadata={"count": check.count, **_sample(check), **_identity(run)},
    )


def _sample(check: Check) -> dict[str, list[str]]:
    return {"sample": list(check.sample)} if check.sample else {}


def _identity(run: Run) -> dict[str, str]:
    # Dagster keeps the partition of an evaluation only for checks that are partitioned
    # themselves, which is a preview feature in this version.
    partition = {} if run.partition is None else {"partition": run.partition}
    return {"run_id": run.id, **partition}


def scope_sentence(run: Run) -> str:
    """The planned rows beside the bounds, for a person."""
    low = "any number" if run.expected_min is None else f"{run.expected_min:,}"
    high = "any number" if run.expected_max is None else f"{run.expected_max:,}"
    return f"{run.planned:,} rows are planned; expected were {low} to {high}."


def _bounds(run: Run) -> dict[str, int]:
    bounds = {"expected_min": run.expected_min, "expected_max": run.expected_max}
    return {name: rows for name, rows in bounds.items() if rows is not None}
