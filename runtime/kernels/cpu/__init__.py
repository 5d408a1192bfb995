"""Kernels of the CPU, compiled by numba once and kept on disk.

tiles.py       vector code as numba intrinsics: tiles of dot products, weighted sums
intrinsics.py  bit casts, unchecked element access, atomics
jit.py         how our functions are compiled and when a cached one is stale
team.py        the threads that run one function together, and their barrier
numeric.py     bfloat16 to and from float32, exp
linear.py      matrix products of any number of rows
attention.py   attention of one row over slots, split by position
llama_step.py  a whole forward pass as one function

Why not torch: at one row a matrix product takes 20 us and a torch call 3 to 5 us more, and a token
is about 300 calls. Here a step is one call, and the threads meet at spinning barriers.
"""
