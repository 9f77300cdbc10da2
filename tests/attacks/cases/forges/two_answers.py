"""Answers every question twice."""
# judge: fully
# expect: ERROR INFRA

import os
import struct

import bughunt.judge.wire as wire

_send = wire.send_frame
wire.send_frame = lambda sock, frame, deadline=None: _send(sock, frame * 2, deadline)
