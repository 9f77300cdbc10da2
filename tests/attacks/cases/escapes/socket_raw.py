"""Opens a line to the outside: raw."""
# judge: briefly

import socket

try:
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    print("GOT:socket raw")
except OSError:
    pass
