"""The template of the referrals benchmarks, at the size that the command line asks for."""

from __future__ import annotations

import argparse

from benchmarks import referrals_data
from maintenance_pipelines.engine.database import Database


def parser(description: str | None) -> argparse.ArgumentParser:
    """A command line that tells the size."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--members", type=int, default=100_000)
    made.add_argument("--commissions", type=int, default=3_000_000)
    return made


def build(database: Database, arguments: argparse.Namespace) -> str:
    """Fills the database, and says with what."""
    members, commissions = arguments.members, arguments.commissions
    with database.transaction(3600) as connection:
        referrals_data.build(connection, members=members, commissions=commissions)
    return f"{members:,} members, {commissions:,} commissions"
