"""The formats of `ganpipe export`: how a generator is written, drawn with again, and loaded without ganpipe.

Imports no torch before a format is used: the parser of the command line reads the table.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

from ganpipe.errors import GanpipeError

if TYPE_CHECKING:
    from torch import Tensor, nn

    Draw = Callable[
        [Tensor, Tensor | None], Tensor
    ]  # latents `[N, z_dim]`, labels `[N]` → images `[N, C, H, W]`

EXTRA = "ganpipe[export]"


@dataclass(frozen=True)
class Format:
    """A file format. `packages`: what it needs beside ganpipe's own.

    `write`: the file's bytes, from a generator and example inputs of two images. `open`: draws with these bytes.
    `example`: Python that draws one image from the file, see `Usage`.
    """

    file: str
    packages: tuple[str, ...]
    write: Callable[[nn.Module, Tensor, Tensor | None], bytes]
    open: Callable[[bytes], Draw]
    example: Callable[[Usage], list[str]]


@dataclass(frozen=True)
class Usage:
    """The facts about a file that a program must know to draw with it."""

    file: str
    z_dim: int
    channels: int
    labels: bool


def require_packages(name: str) -> Format:
    """The format of this name; raises GanpipeError, before any work, if a package that it needs is missing."""
    chosen = FORMATS[name]
    if missing := [package for package in chosen.packages if importlib.util.find_spec(package) is None]:
        raise GanpipeError(
            f"--format {name} needs {', '.join(missing)}, to be had with: pip install '{EXTRA}'"
        )
    return chosen


def _write_onnx(G: nn.Module, z: Tensor, labels: Tensor | None) -> bytes:
    import torch

    inputs = {"z": z} if labels is None else {"z": z, "labels": labels}
    program = torch.onnx.export(
        G,
        tuple(inputs.values()),
        dynamo=True,
        verbose=False,
        input_names=list(inputs),
        output_names=["images"],
        dynamic_shapes=_any_batch(len(inputs)),
    )
    assert program is not None
    return bytes(program.model_proto.SerializeToString())


def _open_onnx(data: bytes) -> Draw:
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])

    def draw(z: Tensor, labels: Tensor | None) -> Tensor:
        given = {"z": z.numpy()} if labels is None else {"z": z.numpy(), "labels": labels.numpy()}
        return torch.from_numpy(session.run(None, given)[0])

    return draw


def _write_torch(G: nn.Module, z: Tensor, labels: Tensor | None) -> bytes:
    import torch

    inputs = (z,) if labels is None else (z, labels)
    program = torch.export.export(G, inputs, dynamic_shapes=_any_batch(len(inputs)))
    buffer = BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


def _open_torch(data: bytes) -> Draw:
    import torch

    module = torch.export.load(BytesIO(data)).module()

    def draw(z: Tensor, labels: Tensor | None) -> Tensor:
        with torch.no_grad():
            images: Tensor = module(z) if labels is None else module(z, labels)
        return images

    return draw


def _any_batch(inputs: int) -> tuple[object, ...]:
    """The first dimension of every input is the batch, of any size."""
    import torch

    batch = torch.export.Dim("batch", min=1)
    return tuple({0: batch} for _ in range(inputs))


def _onnx_example(usage: Usage) -> list[str]:
    given = '{"z": z, "labels": np.array([0])}' if usage.labels else '{"z": z}'
    pixels = "images[0, 0]" if usage.channels == 1 else "images[0].transpose(1, 2, 0)"
    return [
        "import numpy as np, onnxruntime",
        "from PIL import Image",
        f"z = np.random.default_rng(0).standard_normal((1, {usage.z_dim}), dtype=np.float32)",
        f'images = onnxruntime.InferenceSession("{usage.file}").run(None, {given})[0]',
        f'Image.fromarray(np.uint8(np.round(127.5 * ({pixels} + 1)))).save("image.png")',
    ]


def _torch_example(usage: Usage) -> list[str]:
    given = "z, torch.tensor([0])" if usage.labels else "z"
    pixels = "images[0, 0]" if usage.channels == 1 else "images[0].permute(1, 2, 0)"
    return [
        "import torch",
        "from PIL import Image",
        f"z = torch.randn(1, {usage.z_dim}, generator=torch.Generator().manual_seed(0))",
        f'images = torch.export.load("{usage.file}").module()({given}).detach()',
        f'Image.fromarray((127.5 * ({pixels} + 1)).round().byte().numpy()).save("image.png")',
    ]


FORMATS: dict[str, Format] = {
    "onnx": Format(
        "generator.onnx", ("onnx", "onnxscript", "onnxruntime"), _write_onnx, _open_onnx, _onnx_example
    ),
    "torch-export": Format("generator.pt2", (), _write_torch, _open_torch, _torch_example),
}
