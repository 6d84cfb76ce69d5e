"""The pipeline as plain functions, one file per stage. Commands and Prefect tasks call these."""
