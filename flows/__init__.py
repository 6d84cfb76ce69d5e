"""Prefect flows: when and where. What is done stands in ganpipe.stages."""
