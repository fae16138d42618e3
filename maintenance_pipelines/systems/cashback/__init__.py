"""Cashback: six tables added to the databases of a lending application, instance by instance."""
