"""Plan, apply, verify, undo. Knows no system and no Dagster."""
