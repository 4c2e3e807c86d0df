"""Outer measures: what a model at one step can do, beside what changes inside it. Numbers by task and measure.

    set of documents, pairs or choices  →  windows of tokens  →  sums of losses  →  measures, with counts and errors

`tasks` opens what a name means; `scoring` is the only place where a model is called; `perplexity`, `pairs` and
`choices` make numbers of its sums. `results` puts them beside the
sealed checkpoint, `sweep` goes over the steps of a series.
"""
