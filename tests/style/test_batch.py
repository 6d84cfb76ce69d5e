"""Batches of stylizations: nothing stylized twice, nothing lost, and what a user may ask of them."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ganpipe.compute.device import choose_compute
from ganpipe.errors import GanpipeError, Interrupted
from ganpipe.imaging import decode
from ganpipe.imaging.float_image import FloatImage, read_float_image
from ganpipe.imaging.provenance import origin_kind, read_origin
from ganpipe.progress import Progress, Report, ignore
from ganpipe.settings.schema import StyleSettings
from ganpipe.style.batch import runner
from ganpipe.style.batch.manifest import MANIFEST, PREVIEW, ManifestEntry, add_entry, read_entries
from ganpipe.style.batch.plan import Variant, bytes_to_write, plan_batch
from ganpipe.style.batch.report import StyleReport, summarize_batch
from ganpipe.style.batch.runner import run_batch
from ganpipe.style.optimize import resize
from ganpipe.style.params import resolve_params
from ganpipe.style.reading import read_style
from tests.conftest import Killed, changed, noise_image

CPU = choose_compute("cpu", "fp32")
QUICK = StyleSettings(preset="draft", long_edge_px=48, steps=2, scales=1, feedforward="never")


def save_images(folder: Path, *names: str, size: tuple[int, int] = (40, 30)) -> list[Path]:
    folder.mkdir(exist_ok=True)
    for k, name in enumerate(names):
        noise_image(k, size).save(folder / name)
    return [folder / name for name in names]


def run(
    contents: list[Path],
    styles: list[Path],
    out: Path,
    settings: StyleSettings = QUICK,
    masks: tuple[Path, ...] = (),
    report: Report = ignore,
) -> StyleReport:
    plan = plan_batch(contents, styles, out, [Variant("", settings)], masks)
    return summarize_batch(plan, [run_batch(plan.tasks, CPU, report=report)], "")


def test_a_second_run_stylizes_nothing_and_changed_settings_stylize_all(tmp_path: Path) -> None:
    contents, styles = (
        save_images(tmp_path / "c", "a.png", "b.jpg"),
        save_images(tmp_path / "s", "x.png", "y.png"),
    )
    first = run(contents, styles, tmp_path / "out")
    assert (first.done, first.skipped, first.failed) == (4, 0, 0)
    assert {Path(i.output).name for i in first.items} == {"a__x.png", "a__y.png", "b__x.png", "b__y.png"}
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()}
    second = run(contents, styles, tmp_path / "out")
    assert (second.done, second.skipped) == (0, 4)
    assert [i.quality for i in second.items] == [i.quality for i in first.items]
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()} == before
    assert run(contents, styles, tmp_path / "out", changed(QUICK, steps=3)).done == 4


def test_what_only_changes_speed_stylizes_nothing_again(tmp_path: Path) -> None:
    contents, styles = save_images(tmp_path / "c", "a.png"), save_images(tmp_path / "s", "x.png")
    run(contents, styles, tmp_path / "out")
    other = changed(QUICK, batch_items=3, tile_px=64, shard_items=2, contents="elsewhere")
    assert run(contents, styles, tmp_path / "out", other).skipped == 1


def test_a_damaged_output_is_stylized_again(tmp_path: Path) -> None:
    contents, styles = save_images(tmp_path / "c", "a.png"), save_images(tmp_path / "s", "x.png")
    output = Path(run(contents, styles, tmp_path / "out").items[0].output)
    with Image.open(output) as image:
        good = np.asarray(image).copy()
    output.write_bytes(output.read_bytes()[:-20])
    assert run(contents, styles, tmp_path / "out").done == 1
    with Image.open(output) as image:
        assert (np.asarray(image) == good).all()


def test_a_torn_line_of_the_manifest_costs_one_image(tmp_path: Path) -> None:
    add_entry(tmp_path, ManifestEntry("k1", "a.png", "0"))
    with (tmp_path / MANIFEST).open("a") as file:
        file.write('{"key": "k2", "outp')
    add_entry(tmp_path, ManifestEntry("k3", "c.png", "0"))
    assert [entry.key for entry in read_entries(tmp_path)] == ["k1", "k3"]


def test_one_bad_file_is_reported_and_stops_nobody(tmp_path: Path) -> None:
    contents, styles = save_images(tmp_path / "c", "a.png", "cut.png"), save_images(tmp_path / "s", "x.png")
    bad, cut = tmp_path / "c/bad.png", contents[1]
    bad.write_bytes(b"no picture")
    cut.write_bytes(cut.read_bytes()[:-200])  # its header is whole
    report = run([bad, *contents], styles, tmp_path / "out")
    assert [i.state for i in report.items] == ["failed", "done", "failed"]
    assert "bad.png: it is none of" in report.items[0].reason
    assert "cut.png: it cannot be decoded" in report.items[2].reason


def test_two_contents_of_one_name_get_two_outputs(tmp_path: Path) -> None:
    contents = save_images(tmp_path / "c", "a.png") + save_images(tmp_path / "d", "a.jpg")
    report = run(contents, save_images(tmp_path / "s", "x.png"), tmp_path / "out")
    assert len({i.output for i in report.items}) == 2
    assert all(Path(i.output).exists() for i in report.items)


def test_names_as_long_as_file_systems_take_work(tmp_path: Path) -> None:
    contents = save_images(tmp_path / "c", "ü" * 120 + ".png", "ü" * 121 + ".png")
    report = run(contents, save_images(tmp_path / "s", "x" * 240 + ".png"), tmp_path / "out")
    assert (report.done, len({i.output for i in report.items})) == (2, 2)


def test_a_signal_keeps_what_is_finished_and_the_next_run_does_the_rest(tmp_path: Path) -> None:
    contents = save_images(tmp_path / "c", "a.png") + save_images(tmp_path / "d", "b.png", size=(30, 40))
    styles = save_images(tmp_path / "s", "x.png")

    def interrupt(progress: object) -> None:
        if getattr(progress, "done", 0) > 1.2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        run(contents, styles, tmp_path / "out", report=interrupt)
    report = run(contents, styles, tmp_path / "out")
    assert (report.done, report.skipped) == (1, 1)


@pytest.mark.slow
def test_memory_that_runs_out_halves_the_batch_and_then_cuts_tiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = runner.stylize, []

    def short_of_memory(network, style_tasks, params, compute, tile_px, on_step):  # type: ignore[no-untyped-def]
        calls.append((len(style_tasks), tile_px))
        if len(style_tasks) > 1 or not tile_px:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        return real(network, style_tasks, params, compute, tile_px, on_step)

    monkeypatch.setattr(runner, "stylize", short_of_memory)
    settings = changed(QUICK, long_edge_px=256, batch_items=2)
    report = run(
        save_images(tmp_path / "c", "a.png", "b.png", size=(40, 16)),
        save_images(tmp_path / "s", "x.png"),
        tmp_path / "o",
        settings,
    )
    assert report.done == 2
    assert calls == [(2, 0), (1, 0), (1, 128), (1, 0), (1, 128)]


def test_transparency_and_origin_are_kept(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    image = noise_image(0, (40, 40), "RGBA")
    image.putalpha(Image.linear_gradient("L").resize((40, 40)))
    image.save(tmp_path / "c/a.png")
    report = run([tmp_path / "c/a.png"], save_images(tmp_path / "s", "x.png"), tmp_path / "out")
    with Image.open(report.items[0].output) as result:
        assert result.mode == "RGBA"
        alpha = np.asarray(result.getchannel("A"))
    assert alpha[0].mean() < 20
    assert alpha[-1].mean() > 235
    origin = read_origin(Path(report.items[0].output))
    assert (origin["content"]["name"], origin["style"]["name"]) == ("a.png", "x.png")


@pytest.mark.parametrize(
    ("kind", "suffix", "depth"), [("tiff", ".tiff", 16), ("jpeg", ".jpg", 8), ("webp", ".webp", 8)]
)
def test_each_format_is_written_and_traced(tmp_path: Path, kind: str, suffix: str, depth: int) -> None:
    settings = changed(QUICK, format=kind, bit_depth=depth)
    report = run(
        save_images(tmp_path / "c", "a.png"), save_images(tmp_path / "s", "x.png"), tmp_path / "out", settings
    )
    output = Path(report.items[0].output)
    assert output.suffix == suffix
    assert read_origin(output)["kind"] == "stylized"


def test_a_format_that_cannot_be_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(GanpipeError, match="jpeg holds 8 bits"):
        run(
            save_images(tmp_path / "c", "a.png"),
            save_images(tmp_path / "s", "x.png"),
            tmp_path / "o",
            changed(QUICK, format="jpeg", bit_depth=16),
        )


def test_shards_keep_images_of_one_size_together(tmp_path: Path) -> None:
    wide = save_images(tmp_path / "c", "a.png", "b.png", "c.png")
    tall = save_images(tmp_path / "d", "e.png", "f.png", size=(30, 40))
    plan = plan_batch(
        [wide[0], tall[0], wide[1], tall[1], wide[2]],
        save_images(tmp_path / "s", "x.png"),
        tmp_path,
        [Variant("", QUICK)],
    )
    assert [[w.content.name for w in shard] for shard in plan.shards(3)] == [
        ["a.png", "b.png", "c.png"],
        ["e.png", "f.png"],
    ]


def test_a_second_batch_with_equal_names_keeps_the_first_ones_images(tmp_path: Path) -> None:
    styles = save_images(tmp_path / "s", "x.png")
    out = tmp_path / "out"
    first, second = save_images(tmp_path / "c", "a.png"), [tmp_path / "d/a.png"]
    (tmp_path / "d").mkdir()
    noise_image(7).save(second[0])
    old = Path(run(first, styles, out).items[0].output)
    before = old.read_bytes()
    new = Path(run(second, styles, out).items[0].output)
    assert (old.name, new.name[:5], new != old) == ("a__x.png", "a__x_", True)
    assert old.read_bytes() == before
    assert [run(contents, styles, out).skipped for contents in (first, second)] == [1, 1]


def test_other_settings_and_a_strangers_file_keep_their_images(tmp_path: Path) -> None:
    contents, styles = save_images(tmp_path / "c", "a.png"), save_images(tmp_path / "s", "x.png")
    (tmp_path / "out").mkdir()
    mine = tmp_path / "out/a__x.png"
    mine.write_bytes(b"mine")
    outputs = {
        run(contents, styles, tmp_path / "out", changed(QUICK, steps=k)).items[0].output for k in (2, 3)
    }
    assert len(outputs | {str(mine)}) == 3
    assert mine.read_bytes() == b"mine"


def test_a_kill_before_the_image_is_written_stylizes_it_again_under_its_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents, styles = save_images(tmp_path / "c", "a.png"), save_images(tmp_path / "s", "x.png")

    def kill(path: Path, data: bytes) -> None:
        path.write_bytes(data[:100])
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(runner, "write_bytes", kill)
        with pytest.raises(Killed):
            run(contents, styles, tmp_path / "out")
    report = run(contents, styles, tmp_path / "out")
    assert (report.done, Path(report.items[0].output).name) == (1, "a__x.png")


def test_a_name_that_a_batch_at_the_same_time_has_taken_is_left_to_it(tmp_path: Path) -> None:
    contents, styles = save_images(tmp_path / "c", "a.png"), save_images(tmp_path / "s", "x.png")
    variants = [Variant("", changed(QUICK, steps=k)) for k in (2, 3)]
    plans = [plan_batch(contents, styles, tmp_path / "out", [variant]) for variant in variants]
    done = [run_batch(plan.tasks, CPU).items[0].output for plan in plans]
    assert len(set(done)) == 2
    assert all(Path(output).exists() for output in done)


def test_large_styles_are_kept_at_the_size_that_a_result_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "LARGE_PIXELS", 1_500_000)
    params = resolve_params(QUICK)
    path = tmp_path / "x.png"
    noise_image(0, (60, 40)).resize((2400, 1600), Image.Resampling.NEAREST).save(path)
    reduced, whole = read_style(path, QUICK, params), read_float_image(path)
    assert tuple(reduced.pixels.shape[2:]) == (800, 1200)
    assert (resize(reduced.pixels, (32, 48)) - resize(whole.pixels, (32, 48))).abs().max() < 1 / 255
    small = save_images(tmp_path / "s", "y.png")[0]
    assert torch.equal(read_style(small, QUICK, params).pixels, read_float_image(small).pixels)


def test_styles_in_memory_are_bounded_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "STYLE_CACHE_BYTES", 1)
    styles = save_images(tmp_path / "s", "x.png", "y.png", "z.png")
    held: list[int] = []
    real = runner._BatchRunner._style

    def counting(self: runner._BatchRunner, path: Path) -> FloatImage:
        found = real(self, path)
        held.append(len(self.styles))
        return found

    monkeypatch.setattr(runner._BatchRunner, "_style", counting)
    assert run(save_images(tmp_path / "c", "a.png"), styles, tmp_path / "out").done == 3
    assert held == [1, 1, 1]


def test_a_picture_over_the_limit_fails_alone_and_names_the_setting(tmp_path: Path) -> None:
    contents = save_images(tmp_path / "c", "a.png", "b.png")
    Image.new("L", (1001, 1000)).save(contents[0])
    settings = changed(QUICK, max_megapixels=1)
    report = run(contents, save_images(tmp_path / "s", "x.png"), tmp_path / "out", settings)
    assert [item.state for item in report.items] == ["failed", "done"]
    assert "1001×1000 is over 1 megapixels (the setting max_megapixels)" in report.items[0].reason


def test_the_bytes_of_a_plan_are_estimated_low(tmp_path: Path) -> None:
    contents, styles = save_images(tmp_path / "c", "a.png"), save_images(tmp_path / "s", "x.png")
    plan = plan_batch(contents, styles, tmp_path / "out", [Variant("", QUICK)])
    estimate = bytes_to_write(plan)
    run(contents, styles, tmp_path / "out")
    assert 0.2 < estimate / (tmp_path / "out/a__x.png").stat().st_size < 1


def test_a_preview_is_replaced_while_a_picture_is_painted_and_deleted_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ganpipe.style.batch.preview.EVERY_S", 0.0)
    seen: list[bytes] = []
    path = tmp_path / "out" / PREVIEW

    def look(_: Progress) -> None:
        if path.exists():
            assert origin_kind(path) == "preview"
            seen.append(Image.open(path).tobytes())

    run(
        save_images(tmp_path / "c", "a.png"),
        save_images(tmp_path / "s", "x.png"),
        tmp_path / "out",
        report=look,
    )
    assert seen
    assert not path.exists()


def test_somebody_elses_file_is_no_preview(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ganpipe.style.batch.preview.EVERY_S", 0.0)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / PREVIEW).write_bytes(b"mine")
    run(save_images(tmp_path / "c", "a.png"), save_images(tmp_path / "s", "x.png"), tmp_path / "out")
    assert (tmp_path / "out" / PREVIEW).read_bytes() == b"mine"
