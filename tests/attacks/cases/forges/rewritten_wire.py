"""Replaces the functions that the worker talks with."""
# expect: ERROR INFRA

import bughunt.judge.wire as wire

wire.encode = lambda value: b"\x10\x00\x00\x00" + b'{"v":1,"n":[]}  '
