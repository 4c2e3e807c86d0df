"""The report: one HTML file that shows what runs and their tables hold, opened from disk, with nothing loaded from
elsewhere.

`cubes` (rows of a table as arrays over their places) · `cards` (what a run is) · `logs` (what it logged) · `batches`
(what it read) · `recipes` (the commands that make the rows again) · `document` (all of it as one document) · `page`
(the document and the front end in one file) · `live` (the page of a run that is still training). The front end is
built in `pico-analyze/web` into `assets`.
"""
