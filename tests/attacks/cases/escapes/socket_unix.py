"""Opens a line to the outside: unix."""
# judge: briefly

import socket

try:
    socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    print("GOT:socket unix")
except OSError:
    pass
