"""Tests of cashback: on databases that a lending application of its own has made."""
