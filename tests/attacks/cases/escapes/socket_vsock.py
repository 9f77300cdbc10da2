"""Opens a line to the outside: vsock."""
# judge: briefly

import socket

try:
    socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    print("GOT:socket vsock")
except OSError:
    pass
