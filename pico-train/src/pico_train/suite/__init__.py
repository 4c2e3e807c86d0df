"""Families of runs: planned, trained, watched and published as one.

A member is a run like any other, trained by the same loop in a process of its own; nothing here trains. What a suite's
file means, `config.suites` says.

`record` (what a suite is, on disk) · `state` (where each member stands) · `running` (members as processes) · `devices`
(shared among them) · `planning` (what all will take) · `scripts` and `submitting` (clusters) · `publishing`.
"""
