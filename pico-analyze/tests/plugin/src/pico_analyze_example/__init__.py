"""An example plug-in of pico-analyze: a metric, a component and a kind of run, in a file each."""
