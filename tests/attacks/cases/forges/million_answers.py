"""Floods the line to the judge."""
# judge: hastily
# expect: ERROR INFRA TIMEOUT

import bughunt.judge.wire as wire

_send = wire.send_frame


def flood(sock, frame, deadline=None):
    for _ in range(10**6):
        _send(sock, frame, deadline)


wire.send_frame = flood
