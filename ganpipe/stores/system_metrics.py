"""System metrics: a training's use of its machine, on the page of its MLflow run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mlflow.environment_variables import MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor


@contextmanager
def log_system_metrics(mlflow_run_id: str) -> Iterator[None]:
    """Inside the block, a thread logs CPU, memory, disk, network and GPUs of this machine; an outage of MLflow ends it.

    MLflow's own variables choose whether and how often (10 s). A resumed run goes on with the next sample.
    """
    if not MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING.get():
        yield
        return
    monitor = SystemMetricsMonitor(mlflow_run_id, resume_logging=True)
    monitor.start()
    try:
        yield
    finally:
        monitor.finish()
