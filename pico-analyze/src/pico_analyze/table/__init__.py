"""The table: one tidy row per value, on disk as Parquet and CSV.

`columns` (what stands in a row, and what identifies it) · `rows_file` (a file of them, with its checksum) ·
`store` (how rows reach the disk and come back).
"""
