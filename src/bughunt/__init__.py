"""A debugging-challenge game of broken model code."""

__version__ = "0.1.0"
