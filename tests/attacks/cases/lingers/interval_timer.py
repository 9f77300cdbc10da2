"""Leaves timers and handlers that strike the next program."""

import signal


def strike(*_):
    print("GOT:strike after the end")


signal.signal(signal.SIGALRM, signal.SIG_IGN)
signal.setitimer(signal.ITIMER_REAL, 3600, 0.1)
