"""A workspace with a champion and a challenger, for every page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ganpipe.evaluation.verdict import Evaluation, Metric
from ganpipe.settings.schema import Settings
from ganpipe.stages import promote
from ganpipe.stages.data import write_page
from ganpipe.stores.dataset_versions import open_version
from ganpipe.stores.run_records import all_records, save_record
from ganpipe.stores.workspace import Workspace
from tests.conftest import activated, copied
from tests.stages.test_stages import with_runs


@pytest.fixture(scope="session")
def judged(
    tmp_path_factory: pytest.TempPathFactory, prepared_noise: Path, mlflow_database: Path, settings: Settings
) -> Path:
    """The dataset `noise` and two runs on it with model versions: the first is champion, the second challenger."""
    runs = [settings, settings.with_values({"training.seed": 1, "loss.gamma": 2.0})]
    folder = with_runs(tmp_path_factory.mktemp("judged"), prepared_noise, mlflow_database, *runs)
    with activated(folder / "workspace") as place:
        version = open_version(place, "noise", settings.data)
        write_page(place, version, settings.data)
        by_hand = settings.with_values({"evaluation.promote": "never"})
        for record in sorted(all_records(place), key=lambda r: r.resolved().training.seed):
            first = record.resolved().training.seed == 0
            verdict = Evaluation(
                {"kd": Metric(12.5, "test", 24, 3.25)}, "fair", ["It is blurred."], "Train longer."
            )
            record = save_record(place, replace(record, evaluation=verdict))
            promote.register_model(place, record, verdict, version, settings if first else by_hand)
    return folder


@pytest.fixture
def noise(workspace: Workspace, judged: Path) -> Workspace:
    return copied(judged, workspace)
