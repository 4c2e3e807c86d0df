"""Where training rows come from: one module for each value of `data.source`.

Each opens what the configuration names and gives a `ShardCorpus`; they differ in how the shards come to be on this disk
and in nothing after that.

`stdlib`, `repeats`, `text` (prepared at their first use) · `tokens` (shards in a directory) · `hub` (shards in a
dataset repository) · `held_out` (which rows of shards are the validation rows).
"""
