"""Names of the files in a run folder that people look at."""

from __future__ import annotations

REPORT_PAGE, REPORT_PICTURE = "report.html", "report.png"
SAMPLES = "samples.png"  # generated beside real images
SUSPECTS_SHEET = "nearest-training-images.png"
GATE_PICTURE = "gate.png"
FILM = "film.mp4"  # of the training grids
# Folders of the pictures that a training makes, in files named by nimg, each with its key in MLflow.
TRAINING_PICTURES = {"grids": "grid", "reconstructions": "reconstructions"}
