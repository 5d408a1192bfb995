"""Who computes what in the next step: one loop, one token budget.

`Scheduler` is the door. Behind it: `Residency` (where each request's K and V live), `Planner` (rows
of a step), `policy` (order of the waiting), `admission` (what is refused at once), `commit` (what a
step's results mean).
"""
