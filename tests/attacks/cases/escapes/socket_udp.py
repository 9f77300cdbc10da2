"""Opens a line to the outside: udp."""

import socket

try:
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    print("GOT:socket udp")
except OSError:
    pass
