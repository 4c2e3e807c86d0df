"""Presets, as YAML: `settings.preset` reads them."""
