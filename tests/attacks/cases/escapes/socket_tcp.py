"""Opens a line to the outside: tcp."""
# judge: briefly

import socket

try:
    socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    print("GOT:socket tcp")
except OSError:
    pass
