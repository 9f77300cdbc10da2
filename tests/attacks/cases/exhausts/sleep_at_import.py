"""Sleeps for ever before it is asked anything."""
# judge: briefly hastily
# expect: TIMEOUT

import time

time.sleep(10**6)
