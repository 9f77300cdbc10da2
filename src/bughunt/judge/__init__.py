"""Running, watching and judging a program that is never imported here."""
