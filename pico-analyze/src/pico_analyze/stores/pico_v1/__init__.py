"""Runs of Pico 1.0, whose captures are pickles.

`spec` (the kind of run) · `names` (of its files) · `store` (the run). Pickles are opened by `stores.pickled`.
"""
