"""Fails with an error that cannot be printed."""
# expect: ERROR

class Odd(Exception):
    def __str__(self):
        raise SystemExit(0)


raise Odd
