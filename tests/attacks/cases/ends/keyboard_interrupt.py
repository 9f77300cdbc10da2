"""Raises what a person's Ctrl-C raises."""
# expect: ERROR

raise KeyboardInterrupt
