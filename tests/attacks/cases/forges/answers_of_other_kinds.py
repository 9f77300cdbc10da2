"""Answers every question with another kind of value than the one asked for."""
# expect: ERROR CONTRACT INFRA REGRESSED

import bughunt.judge.worker as worker

worker.Worker.answer = lambda self, request: [None, {"passed": True}, float("nan"), "SOLVED"][request["id"] % 4]
