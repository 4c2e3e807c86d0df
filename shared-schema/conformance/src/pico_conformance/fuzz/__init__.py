"""Seeded damage to golden runs, put through every command of both tools.

`mutations` (what is done to a run) · `commands` (what is asked of it, in one process) · `oracle` (what an answer may
be) · `campaign` (many seeds, each in a process of its own). ``python -m pico_conformance.fuzz`` runs it.
"""
