"""A GPU is one judge's at a time: two would time and fill each other's."""

import os
import socket

from bughunt.errors import MachineError


def reserve(device: str) -> socket.socket | None:
    """Hold a GPU until what is returned is closed or this process ends; nothing for a CPU.

    The name is a socket's in Linux's abstract namespace, which the kernel gives to one and frees by itself.
    MachineError where another judge has it.
    """
    if not device.startswith("cuda"):
        return None
    index = int(device.partition(":")[2] or 0)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    name = visible[index] if index < len(visible) and visible[index] else str(index)
    held = socket.socket(socket.AF_UNIX)
    try:
        held.bind(f"\0bughunt-gpu-{name}")
    except OSError as error:
        held.close()
        raise MachineError(
            f"another judge is using the GPU {name}", "wait until it is done, or use --device cpu"
        ) from error
    return held
