"""The judge's proving ground: programs known to be right or wrong, in number."""
