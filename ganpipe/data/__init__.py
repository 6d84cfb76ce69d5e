"""From files to shards: sources, inspection, ingest, manifest, resize, prepare."""
