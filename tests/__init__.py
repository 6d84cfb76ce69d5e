"""Tests. In xdist's workers, which share the cores, torch computes in one thread: several of them would wait for each
other's (LOG.md). Before anything imports torch, which reads it once; the processes that tests start inherit it."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
