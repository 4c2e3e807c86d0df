"""Token rows in Parquet files: how they are written, listed and found, and how any row is read.

Knows files, row groups and row numbers; not what a row is used for, nor where the text came from.

`parquet` (the format) · `reader`, `page_header` (rows of one file) · `sharded_rows` (rows of many) · `shard_corpus`
(the corpus made of them) · `manifest` (what a prepared corpus is) · `footers`, `split_names` (shards without a
manifest) · `shard_cache` (shards of a Hub repository on this disk).
"""
