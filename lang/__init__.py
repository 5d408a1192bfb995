"""What a user writes (`gen`, `select`, roles) and what is asked and answered: pure data.

No torch, no threads, no I/O. Everything public is exported by `ramify` itself.
"""
