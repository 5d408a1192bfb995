"""Triton operations, one a file: what it computes, a torch reference, the kernel, the launch.

Letters of a name's suffix are its dimensions; each file's first lines say which. `cpu/` holds the
same model step for CPUs.
"""
