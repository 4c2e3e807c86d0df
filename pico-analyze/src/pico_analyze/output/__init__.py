"""For people and other programs: rows as text, figures, pages about metrics, W&B. Nothing is computed here.

`text` (rows as tables, JSON, CSV) · `listing` (runs and their checkpoints) · `without_site` (what models hold beside
their sites) · `dynamics_text` (summaries of series) · `metric_pages` (what a metric or component is) · `plots` ·
`wandb` (logging an analysis).
"""
