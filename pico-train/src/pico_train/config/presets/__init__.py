"""The presets, a YAML file each: `layers` reads them. A new one is a new file here."""
