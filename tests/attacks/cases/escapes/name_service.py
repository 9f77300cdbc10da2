"""Asks for the address of a name, and for the metadata of a cloud."""
# judge: briefly

import socket

for place in (("example.org", 80), ("169.254.169.254", 80), ("127.0.0.1", 22)):
    try:
        socket.create_connection(place, timeout=1)
        print("GOT:connection", place)
    except OSError:
        pass
