"""Leaves a module for the next program to import."""

import os
import sys

for folder in sys.path:
    try:
        if os.path.realpath(folder) != os.path.realpath(os.getcwd()):
            with open(f"{folder}/bh_pwn_module.py", "x") as file:
                file.write("print('GOT:left over')")
            os.unlink(f"{folder}/bh_pwn_module.py")
            print("GOT:left", folder)
    except OSError:
        pass
