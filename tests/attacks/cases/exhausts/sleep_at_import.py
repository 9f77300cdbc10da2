"""Sleeps for ever before it is asked anything."""
# expect: TIMEOUT

import time

time.sleep(10**6)
