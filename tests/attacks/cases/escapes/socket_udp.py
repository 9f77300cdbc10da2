"""Opens a line to the outside: udp."""
# judge: briefly

import socket

try:
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    print("GOT:socket udp")
except OSError:
    pass
