"""Raises what closes generators."""
# expect: ERROR

raise GeneratorExit
