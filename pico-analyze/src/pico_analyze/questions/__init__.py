"""Questions: what is asked, complete and hashable, before any run is looked at.

`question` (what a question holds) · `builder` (the one way from words, keyword arguments or a study to questions) ·
`study_schema` (the YAML of a study) · `study` (from that file to questions) · `study_v1` (files of pico-analyze 1.0).
"""
