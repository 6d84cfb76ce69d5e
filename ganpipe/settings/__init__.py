"""The settings: their schema, the presets, params.yaml and the reference page."""
