"""Referrals: counters of members and creators by the month, and the records that are right."""
