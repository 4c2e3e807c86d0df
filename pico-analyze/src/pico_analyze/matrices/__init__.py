"""Matrices as metrics ask them: dense or factored, with what is derived from them computed once.

`matrix` (what a metric may ask of a matrix; dense ones) · `factored` (products of thin factors, never multiplied out) ·
`decompositions` (float64; they do not give up, and let other threads run) · `lazy` (a derived value, kept) ·
`distinct` (how many different samples there are).
"""
