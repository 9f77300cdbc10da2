"""Sets an alarm for the judge's wrong moment."""
# judge: briefly

import signal

signal.setitimer(signal.ITIMER_REAL, 0.2)
