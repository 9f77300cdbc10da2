"""The exit code 0 is taken for a pass."""
# expect: ERROR

import sys

sys.exit(0)
