"""Opens a line to the outside: netlink."""
# judge: briefly

import socket

try:
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)
    print("GOT:socket netlink")
except OSError:
    pass
