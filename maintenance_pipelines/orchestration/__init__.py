"""The Dagster layer: a job becomes three assets, its checks and a schedule."""
