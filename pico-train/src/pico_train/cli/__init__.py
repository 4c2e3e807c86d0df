"""The command line: whatever prints, and nothing else does.

A module here says what its commands are called, what they take and what they print; what they do is done by a function
of another room, which raises instead of printing. No other room imports this one. Heavy modules are imported inside
the commands, so that `--help` is there at once.

`app` (the commands of a run, and how errors end) · `checkpoint`, `data` with `prepare`, `import_`, `publish` (the other
commands) · `console` (formats, tables) · `progress` (what a person sees while a run goes on) · `reference` (the pages
in docs/).
"""
