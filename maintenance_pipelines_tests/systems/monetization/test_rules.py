"""The odd states, as `check` finds them: on plain data none, on odd data each by its id."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from maintenance_pipelines.engine.consistency import Consistency, judge
from maintenance_pipelines.engine.database import Database
from maintenance_pipelines.engine.refusals import BadInput
from maintenance_pipelines.systems.monetization import demo
from maintenance_pipelines.systems.monetization.options import MonetizationOptions, scope_on
from maintenance_pipelines.systems.monetization.rules import RULES
from maintenance_pipelines_tests.systems.monetization import people
from maintenance_pipelines_tests.systems.monetization.people import NOW

DAY = timedelta(days=1)


def judged(database: Database) -> Consistency:
    return judge(database, scope_on(database, NOW, None, MonetizationOptions()), RULES)


def broken(database: Database) -> dict[str, tuple[str, str]]:
    """The first offender of each broken rule, and the severity."""
    found = (finding for finding in judged(database).findings if not finding.passed)
    return {finding.rule.name: (finding.first[0].id, finding.severity) for finding in found}


def test_plain_data_breaks_no_rule(app: Database) -> None:
    one = people.paying(app, NOW + DAY)
    people.user(app)
    people.redemption(app, people.code(app, max_uses=1), one, NOW - DAY)
    people.override(app, f'{{"tier": "premium", "expires_at": "{(NOW + DAY).isoformat()}"}}')
    people.paying(app, NOW + DAY, tier_source="global_override")
    found = judged(app)
    assert (broken(app), found.valid, len(found.findings)) == ({}, True, 5)


ODD: dict[str, Callable[[Database], Any]] = {
    "free_tier_without_remains": lambda app: people.user(app, tier_expires_at=NOW - DAY),
    "override_tier_while_override": lambda app: people.paying(
        app, NOW + DAY, tier_source="global_override"
    ),
    "active_code_has_uses_left": lambda app: people.code(app, max_uses=2, current_uses=2),
}


@pytest.mark.parametrize("rule", ODD)
def test_an_odd_state_is_a_warning_that_names_it(app: Database, rule: str) -> None:
    odd = ODD[rule](app)
    assert broken(app) == {rule: (str(odd), "warning")}
    assert judged(app).valid


def test_an_unreadable_override_is_an_error(app: Database) -> None:
    people.override(app, '{"tier": "premium", "expires_at": "2025-11-01T00:00:00"}')
    assert broken(app) == {"global_override_readable": ("global_tier_override", "error")}
    assert not judged(app).valid


def test_the_demo_breaks_no_rule_that_is_an_error(app_database: Database) -> None:
    with app_database.engine.begin() as connection:
        demo.build(connection, app_database.schema, now=NOW)
    assert judged(app_database).valid


def test_a_month_is_refused(app: Database) -> None:
    with pytest.raises(BadInput, match="leave the month out"):
        scope_on(app, NOW, "2025-10", MonetizationOptions())
