"""The command line: the only place that prints. Options are read here; what they mean is decided in `questions`.

`app` (the commands) · `show` (those that only show) · `options` (what typer needs to know) · `console` (stderr) ·
`reference` (the pages under docs, generated from the code).
"""
