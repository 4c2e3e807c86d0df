"""Statistics of values: how sure one is, and how a series of them moves.

`uncertainty` (intervals and what chance gives, of one value) · `dynamics` (convergence, fastest change and correlation,
of a series over steps).
"""
