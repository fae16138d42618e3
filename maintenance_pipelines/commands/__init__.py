"""The verbs of the terminal, by what they are about."""
