"""Batches of contents × styles: the plan, the runner, the manifest, the report."""
