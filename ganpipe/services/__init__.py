"""Processes that `ganpipe up` starts and watches."""
