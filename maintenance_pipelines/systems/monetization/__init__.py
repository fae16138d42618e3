"""Monetization: tiers, overrides, promo codes, discipline statistics and trial reminders."""
