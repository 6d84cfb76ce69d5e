"""Tests. torch computes in one thread here, unless OMP_NUM_THREADS says otherwise: networks this small gain nothing by
two, and where another process is at work as well, two spend up to forty times the CPU time waiting for each other.

Before anything imports torch, which reads it once; processes that tests start inherit it.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
