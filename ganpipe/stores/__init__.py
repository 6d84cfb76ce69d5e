"""Everything kept between runs: the workspace, datasets (DVC), runs and models (MLflow), run records, fingerprints."""
