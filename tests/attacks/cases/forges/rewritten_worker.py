"""Finds the worker's own object and makes it praise the program."""
# expect: ERROR CONTRACT INFRA

import gc

from bughunt.judge.worker import Worker

for thing in gc.get_objects():
    if isinstance(thing, Worker):
        thing.answer = lambda request: {"passed": True, "outcome": "SOLVED"}
