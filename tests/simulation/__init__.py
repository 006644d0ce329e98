"""The whole engine from a seed: real plans, pools, walks and health over simulated providers, under a clock of its own.

Nothing here sleeps or opens a socket. `weather.py` says how providers behave, `world.py` what there is and what happens
when, `caller.py` drives one request as the runner does, `invariants.py` has what must hold, `mutants.py` faults that it
has to find. `python -m tests.simulation` runs many seeds.
"""
