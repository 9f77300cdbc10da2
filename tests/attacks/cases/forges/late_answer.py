"""Answers the previous question."""
# judge: fully
# expect: ERROR INFRA

import bughunt.judge.wire as wire

_send, _kept = wire.send_frame, []


def late(sock, frame, deadline=None):
    _kept.append(frame)
    _send(sock, _kept[max(0, len(_kept) - 2)], deadline)


wire.send_frame = late
