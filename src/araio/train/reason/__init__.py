"""Reinforcement learning with verifiable rewards: sample answers, check them, reinforce what was right.

`reinforce.py` is the step, and names the rest in its order; `objectives.py` has the equations.
"""
