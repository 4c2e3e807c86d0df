"""Runs of Pico 1.0: the only place where pickles are opened, in a process of its own.

`spec` (the kind of run) · `names` (of its files) · `store` (the run) · `pickles` (asks the process, checks what it
wrote) · `unpickle` (the process; imports torch).
"""
