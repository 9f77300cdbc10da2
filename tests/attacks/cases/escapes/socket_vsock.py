"""Opens a line to the outside: vsock."""

import socket

try:
    socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    print("GOT:socket vsock")
except OSError:
    pass
