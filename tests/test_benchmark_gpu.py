"""The script for a lent GPU runs, in a tiny form, on a CPU: nobody should find out on the GPU that it does not."""

from __future__ import annotations

import pytest

from benchmarks import gpu


def test_the_gpu_script_measures_all_lines_without_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        gpu.main(["--tiny"])
    told = capsys.readouterr().out
    assert ended.value.code == 0, told
    assert told.count("the same bits") == 2
    for what in (
        "matrix products, bf16",
        "one process",
        "style step, 48², 2 at once",
        "dcgan 16², batch 4, fp32",
    ):
        assert what in told


def test_what_does_not_fit_into_the_minutes_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        gpu.main(["--tiny", "--minutes", "0"])
    assert "| stylegan2 16² | left out: the 0 minutes are over |" in capsys.readouterr().out
