"""Videos: motion that is known, frames that follow each other, and one .mp4 with the sound of the content."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFilter
from torch.nn import functional as F

from ganpipe.errors import GanpipeError
from ganpipe.imaging.image import Pixels, RejectedImage
from ganpipe.imaging.provenance import read_origin
from ganpipe.imaging.tensors import from_pixels, to_pixels
from ganpipe.imaging.video_reading import read_frames, read_video_info
from ganpipe.settings.schema import StyleSettings
from ganpipe.stages.stylize import StyleRequest, stylize_here
from ganpipe.style import motion
from ganpipe.style.batch.plan import Variant, plan_batch
from ganpipe.style.batch.runner import run_batch
from ganpipe.style.motion import motion_between, optical_flow, warp
from ganpipe.style.objective import Temporal
from ganpipe.style.optimize import StyleTask, objective_at
from ganpipe.style.params import resolve_params
from ganpipe.style.video import Frame, VideoParams, VideoStylizer, flicker
from ganpipe.vgg19.network import Vgg19
from tests.conftest import Killed, changed, noise_image
from tests.style.test_batch import CPU, save_images

QUICK = StyleSettings(preset="draft", long_edge_px=64, steps=4, scales=1, video_steps=3)
RATE = 12


def texture(width: int = 200, height: int = 160) -> Image.Image:
    """A smooth picture without repetitions, in which optical flow can be found."""
    return noise_image(5, (width // 8, height // 8)).resize((width, height), Image.Resampling.BICUBIC)


def pan(count: int, size: tuple[int, int] = (96, 64)) -> list[Pixels]:
    """Frames of a camera that moves by (2, 1) pixels per frame, and a disc that moves by 4 to the right in them."""
    photo, frames = texture(), []
    for k in range(count):
        frame = photo.crop((2 * k, k, 2 * k + size[0], k + size[1]))
        ImageDraw.Draw(frame).ellipse((10 + 4 * k, 20, 34 + 4 * k, 44), fill=(230, 60, 40))
        frames.append(np.asarray(frame))
    return frames


def write_video(path: Path, frames: list[Pixels], sound: str | None = "aac") -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "10"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        heard: Any = container.add_stream(sound, rate=44_100) if sound else None
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
        if heard is not None:
            tone = np.sin(np.arange(44_100 * len(frames) // RATE) / 16).astype(np.float32)[None] / 5
            frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 44_100, 0
            container.mux(heard.encode(frame))
            container.mux(heard.encode())
    return path


def test_the_flow_of_a_moving_camera_is_its_motion() -> None:
    before, now = pan(2)
    flow = optical_flow(now, before)
    assert torch.allclose(flow[:, 48:60, 40:90].mean((1, 2)), torch.tensor([2.0, 1.0]), atol=0.2)


def test_a_warped_frame_is_the_next_one_where_motion_is_known() -> None:
    before, now = pan(2)
    found = motion_between(before, now)
    difference = (warp(from_pixels(before), found.flow) - from_pixels(now)).abs().mean(1, keepdim=True)
    unmoved = (from_pixels(before) - from_pixels(now)).abs().mean(1, keepdim=True)
    assert found.known.mean() > 0.6
    assert (difference * found.known).sum() < 0.25 * (unmoved * found.known).sum()


def test_what_a_moving_object_uncovers_is_not_known() -> None:
    before, now = (np.asarray(texture(96, 64)).copy() for _ in range(2))
    before[20:44, 20:44] = now[20:44, 32:56] = (230, 60, 40)
    known = motion_between(before, now).known[0, 0]
    assert known[24:40, 20:32].mean() < 0.7
    assert known[:, 70:].mean() > 0.95


def test_warping_along_whole_pixels_moves_the_image() -> None:
    image = torch.rand(1, 3, 12, 15)
    flow = torch.stack((torch.full((12, 15), 2.0), torch.full((12, 15), -1.0)))
    assert torch.allclose(warp(image, flow)[:, :, 1:, :-2], image[:, :, :-1, 2:], atol=1e-5)


def test_opencv_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    with pytest.raises(GanpipeError, match=r"pip install 'ganpipe\[video\]'"):
        motion.require_optical_flow()


@pytest.mark.parametrize("tile_px", [0, 64])
def test_the_temporal_loss_and_its_gradient_are_added(tile_px: int) -> None:
    """A closed form: what the temporal loss adds to the losses and the gradient, whole and in tiles."""
    params, canvas = resolve_params(QUICK), torch.rand(1, 3, 96, 128)
    task = StyleTask(torch.rand(1, 3, 96, 128), (torch.rand(1, 3, 64, 64),))
    objective = objective_at(Vgg19("relu5_1"), [task], (96, 128), 128, params, CPU, tile_px)
    alone, alone_slope = objective.losses_and_slope(canvas)
    known = (torch.rand(1, 1, 96, 128) > 0.5).float()
    objective.temporal = Temporal(torch.rand(1, 3, 96, 128), known, 7.0)
    both, slope = objective.losses_and_slope(canvas)
    difference = known * (canvas - objective.temporal.before)
    assert torch.allclose(both.total - alone.total, 7 * difference.square().mean(), atol=1e-5)
    expected = 14 * difference / canvas.numel()
    assert (slope - alone_slope - expected).norm() < 1e-3 * expected.norm()


def test_flicker_is_none_if_strokes_move_with_the_content_and_large_if_they_change() -> None:
    contents = pan(4)
    moving = [Frame(content, 1 - from_pixels(content)) for content in contents]
    changing = [
        Frame(content, F.interpolate(torch.rand(1, 3, 16, 24), (64, 96), mode="bilinear"))
        for content in contents
    ]
    assert flicker(moving) < 0.02
    assert flicker(changing) > 0.1
    assert flicker(moving[:1]) == 0


def test_frames_survive_rounding() -> None:
    pixels = pan(1)[0]
    assert (to_pixels(from_pixels(pixels)) == pixels).all()


def stylize(content: Path, out: Path, settings: StyleSettings = QUICK) -> Path:
    style = save_images(content.parent / "s", "x.png")
    [task] = plan_batch([content], style, out, [Variant("", settings)]).tasks
    outcome = run_batch([task], CPU)
    item = outcome.items[0]
    assert item.state == "done", item.reason
    return Path(item.output)


def test_a_video_comes_out_with_its_frames_rate_sound_and_origin(tmp_path: Path) -> None:
    made = stylize(write_video(tmp_path / "clip.mp4", pan(5)), tmp_path / "out")
    assert made.name == "clip__x.mp4"
    info = read_video_info(made)
    assert (info.height_px, info.width_px, info.frames, info.rate) == (42, 64, 5, Fraction(RATE))
    with av.open(str(made)) as container:
        assert container.streams.audio[0].codec_context.name == "aac"
        assert container.streams.audio[0].duration * container.streams.audio[0].time_base > 0.3  # type: ignore[operator]
    origin = read_origin(made)
    assert (origin["content"]["name"], origin["video"]["frames"]) == ("clip.mp4", 5)
    assert 0 < origin["quality"]["flicker"] < 1
    assert [path.name for path in (tmp_path / "out").iterdir() if path.name.startswith(".")] == []
    again = plan_batch(
        [tmp_path / "clip.mp4"], [tmp_path / "s/x.png"], tmp_path / "out", [Variant("", QUICK)]
    )
    assert (again.tasks, again.items[0].state) == ([], "skipped")


def test_an_odd_size_becomes_even(tmp_path: Path) -> None:
    content = write_video(tmp_path / "clip.mp4", pan(2), sound=None)
    info = read_video_info(stylize(content, tmp_path / "out", changed(QUICK, long_edge_px=63)))
    assert (info.height_px, info.width_px, info.frames) == (42, 62, 2)


def test_sound_that_an_mp4_cannot_hold_is_left_out_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = stylize(write_video(tmp_path / "clip.mkv", pan(2), "pcm_f32le"), tmp_path / "out")
    assert "its sound (pcm_f32le) is left out" in caplog.text
    with av.open(str(made)) as container:
        assert not container.streams.audio


@pytest.mark.parametrize("color_mode", ["style", "match"])
def test_a_killed_video_goes_on_after_its_last_frame_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, color_mode: str
) -> None:
    settings = changed(QUICK, color_mode=color_mode)
    content = write_video(tmp_path / "clip.mp4", pan(5))
    made: list[Frame] = []
    next_frame = VideoStylizer.next

    def stylize_until(count: int, out: Path) -> Path:
        def counted(self: VideoStylizer, *arguments: Any) -> Frame:
            if len(made) == count:
                raise Killed
            made.append(next_frame(self, *arguments))
            return made[-1]

        monkeypatch.setattr(VideoStylizer, "next", counted)
        return stylize(content, out, settings)

    stylize_until(99, tmp_path / "whole")
    whole = [made.pop(0).stylized for _ in range(5)]
    with pytest.raises(Killed):
        stylize_until(3, tmp_path / "out")
    assert not (tmp_path / "out/clip__x.mp4").exists()
    assert read_video_info(stylize_until(99, tmp_path / "out")).frames == 5
    assert len(made) == 5, "three frames before the kill, two after it"
    assert all(torch.equal(frame.stylized, expected) for frame, expected in zip(made, whole, strict=True))


def test_a_new_scene_begins_without_the_old_one() -> None:
    """After a cut a frame is the one that it is alone; within a scene it is not."""
    params, style = resolve_params(QUICK), torch.rand(1, 3, 64, 64)

    def task_of(pixels: Pixels) -> StyleTask:
        return StyleTask(from_pixels(pixels), (style,))

    stylizer = VideoStylizer(Vgg19("relu5_1"), params, VideoParams(3, 1000.0), task_of, CPU, 0)
    first, second = pan(2, size=(64, 44))
    other = np.asarray(noise_image(7, (64, 44)))
    begun = stylizer.next(None, first, lambda step: None)
    for content, is_cut in ((second, False), (other, True)):
        after, alone = (stylizer.next(before, content, lambda step: None) for before in (begun, None))
        assert torch.equal(after.stylized, alone.stylized) == is_cut


def test_an_upright_telephone_video_stays_upright(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", pan(2))
    turned = tmp_path / "turned.mp4"
    with av.open(str(path)) as source, av.open(str(turned), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    data = bytearray(turned.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # the display matrix of the track: turned by 90°
    matrix = [0, 1, 0, -1, 0, 0, 0, 0, 1]
    scales = [65536, 65536, 2**30] * 3
    data[at : at + 36] = b"".join(
        (v * s).to_bytes(4, "big", signed=True) for v, s in zip(matrix, scales, strict=True)
    )
    turned.write_bytes(bytes(data))
    info = read_video_info(turned)
    assert (info.height_px, info.width_px) == (96, 64)
    plain, upright = (np.asarray(next(read_frames(p))).astype(int) for p in (path, turned))
    assert np.abs(np.rot90(plain, -1) - upright).mean() < 2


@pytest.mark.parametrize("data", [b"no video", b""])
def test_a_damaged_video_fails_alone(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "bad.mp4").write_bytes(data)
    content = write_video(tmp_path / "clip.mp4", pan(2))
    job = StyleRequest(
        str(tmp_path),
        (str(tmp_path / "bad.mp4"), str(content)),
        (str(save_images(tmp_path / "s", "x.png")[0]),),
        str(tmp_path / "out"),
        changed_settings(),
    )
    report = stylize_here(job)
    assert [item.state for item in report.items] == ["failed", "done"]
    assert "bad.mp4: it is no video that can be read" in report.items[0].reason
    sheet = Image.open(str(report.sheet))
    assert sheet.convert("L").filter(ImageFilter.FIND_EDGES).getextrema()[1] > 50  # type: ignore[operator]


def changed_settings() -> Any:
    from ganpipe.settings.params import Params, resolve

    words = ["style.preset=draft", "style.long_edge_px=64", "style.steps=2", "style.scales=1"]
    return resolve(Params(), "demo", [*words, "style.video_steps=1"])


def test_a_video_as_a_style_is_refused(tmp_path: Path) -> None:
    content = write_video(tmp_path / "clip.mp4", pan(2))
    plan = plan_batch(save_images(tmp_path / "c", "a.png"), [content], tmp_path / "out", [Variant("", QUICK)])
    assert (plan.tasks, plan.items[0].state) == ([], "failed")


def test_a_folder_without_frames_is_no_video(tmp_path: Path) -> None:
    os.mkdir(tmp_path / "folder.mp4")
    with pytest.raises(RejectedImage, match="not a regular file"):
        read_video_info(tmp_path / "folder.mp4")
