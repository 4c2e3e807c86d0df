"""The only place where pickles are opened: in a process of its own, with limits, which takes tensors alone.

`pickles` (asks the process, checks what it wrote) · `unpickle` (the process; imports torch) · `distributed` (in it, the
checkpoints that torch writes as a directory). Whose pickles they are, Pico 1.0's captures or the weights of other
makers' models, is the stores' business.
"""
