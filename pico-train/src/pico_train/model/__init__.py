"""The decoder and what reads, writes and samples from it."""
