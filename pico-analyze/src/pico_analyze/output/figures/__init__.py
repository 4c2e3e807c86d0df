"""Figures of tables, for paper and screen: rows in, a matplotlib figure and its exact values out.

`request` (what is drawn) · `selection` (which rows) · `series` (lines of values) · `lines` · `heads` · `maps` ·
`beside` (a measure with results of evaluation) · `losses` · `spectra` · `style` · `saving` (files, each with its CSV).
"""
