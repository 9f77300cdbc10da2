"""Opens a line to the outside: ip6."""
# judge: briefly

import socket

try:
    socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    print("GOT:socket ip6")
except OSError:
    pass
