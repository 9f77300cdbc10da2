"""Opens a line to the outside: tcp."""

import socket

try:
    socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    print("GOT:socket tcp")
except OSError:
    pass
