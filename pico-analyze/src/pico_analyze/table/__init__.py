"""The table: one tidy row per value, on disk as Parquet and CSV.

`columns` (what stands in a row, and what identifies it) · `store` (how rows reach the disk and come back).
"""
