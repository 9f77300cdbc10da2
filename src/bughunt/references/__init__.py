"""Correct programs, one a folder: the targets of mutation and the yardsticks of the judge."""
