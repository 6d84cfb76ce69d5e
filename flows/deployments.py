"""The runner's process: `python -m flows.deployments` registers the deployment and executes its runs, one at a time."""

from __future__ import annotations

import argparse

from flows.pipeline import pipeline
from ganpipe.services.up import DEPLOYMENT


def main() -> None:
    """Serves until SIGTERM."""
    from prefect.flows import EntrypointType

    parser = argparse.ArgumentParser()
    for name in ("workspace", "cron", "dataset", "preset"):
        parser.add_argument(f"--{name}", default="")
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    given = parser.parse_args()
    parameters = {
        "workspace": given.workspace,
        "dataset": given.dataset or None,
        "preset": given.preset or None,
        "overrides": given.overrides,
    }
    pipeline.serve(
        name=DEPLOYMENT,
        cron=given.cron or None,
        parameters=parameters,
        limit=1,
        entrypoint_type=EntrypointType.MODULE_PATH,
        print_starting_message=False,
        description="From images to a judged, registered model and stylized pictures.",
    )


if __name__ == "__main__":
    main()
