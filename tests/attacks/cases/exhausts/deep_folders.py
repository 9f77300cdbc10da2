"""Makes folders in folders, deeper than anybody can walk."""
# judge: briefly

import os

for _ in range(3000):
    os.mkdir("d")
    os.chdir("d")
