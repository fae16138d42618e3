"""The demo's story: counters drift, are diagnosed, recalculated, archived, reset, proved."""

from __future__ import annotations

from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.job import Scope
from maintenance_pipelines.systems.referrals import demo
from maintenance_pipelines.systems.referrals.demo import Chapter
from maintenance_pipelines.systems.referrals.diagnosis import Diagnosis, diagnose
from maintenance_pipelines.systems.referrals.options import ReferralsOptions
from maintenance_pipelines.systems.referrals.recalculation import monthly_stats_recalculation
from maintenance_pipelines.systems.referrals.reset import monthly_stats_reset
from maintenance_pipelines_tests.systems.referrals.jobs import carry_out, demand_verified

JOBS = {job.name: job for job in (monthly_stats_recalculation, monthly_stats_reset)}


def diagnoses(database: Database, chapters: tuple[Chapter, ...]) -> list[Diagnosis]:
    """Carries the chapters out; what each diagnosis found."""
    found = []
    for chapter in chapters:
        scope = Scope(chapter.as_of, chapter.partition, ReferralsOptions())
        if chapter.job is None:
            found.append(diagnose(database, scope))
        else:
            run = demand_verified(carry_out(JOBS[chapter.job], database, scope))
            assert run.planned > 700
    return found


def test_the_chapters_tell_it(stale: Database) -> None:
    drifted, rebuilt, archived, november = diagnoses(stale, demo.CHAPTERS)
    assert drifted.verdict.startswith("Something is wrong")
    assert any("monthly_stats_recalculation" in step for step in drifted.to_do)
    assert not drifted.sum_is_right
    for diagnosis in (rebuilt, archived, november):
        assert diagnosis.sum_is_right
        # What no job mends: three whose referrer has deleted the account, and October's refunds.
        assert diagnosis.verdict.startswith("Something is odd, nothing is wrong")
        assert not any("monthly_stats_recalculation" in step for step in diagnosis.to_do)
    assert (archived.due, archived.archived) == (1687, 1687)
    assert not any("./maintenance run" in step for step in (*archived.to_do, *november.to_do))
