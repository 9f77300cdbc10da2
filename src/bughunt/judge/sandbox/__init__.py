"""The fence around a program's process.

Covered, each layer by itself and several at once: the files of the host, its other processes and their
memory, the network, privileges, new programs and processes, memory, CPU seconds, file sizes.

Not covered: holes in the kernel, side channels, devices such as a GPU, the memory of many jobs together.

`fence` is the recipe, `tier` says how much of it this machine can do; each other module is one layer.
"""
