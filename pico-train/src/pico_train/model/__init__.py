"""The decoder and what reads, writes and samples from it.

Knows weights, configurations and tokens of one checkpoint; not runs, data or training. The architecture is Llama's, and
so are its names.

`decoder` · `width` (what follows it under μP) · `generation` (tokens, with a cache) · `sampling` (text from a
checkpoint) · `huggingface` (config.json and weights) · `tokenizer_export` (the tokenizer beside them) · `sealed_files`
(are they what was sealed) · `pico_v1` (weights of Pico 1.0).
"""
