"""DINOv2's vision transformer (Oquab et al. 2023, arXiv 2304.07193), frozen: ViT-S, B or L with patches of 14 pixels."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HEAD_WIDTH = 64  # of an attention head in every published size
PATCH_PX = 14
EPSILON = 1e-6
# The published code scales positions by this much more than the ratio of the sizes.
OFFSET = 0.1


class DinoV2(nn.Module):
    """The network that a published state dict describes, without registers.

    Raises:
        KeyError, RuntimeError: the tensors are not those of such a network.
    """

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        width = state["cls_token"].shape[-1]
        depth = len({name.split(".")[1] for name in state if name.startswith("blocks.")})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(state["pos_embed"].shape))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, PATCH_PX, PATCH_PX)})
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width, EPSILON)
        self.load_state_dict({name: value for name, value in state.items() if name != "mask_token"})
        self.requires_grad_(False)
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The class token `[N, width]` and the mean of the patch tokens of normalized images, sides multiples of 14."""
        patches = self.patch_embed["proj"](images)
        tokens = torch.cat(
            [self.cls_token.expand(len(images), -1, -1), patches.flatten(2).transpose(1, 2)], 1
        )
        tokens = tokens + self._positions(patches.shape[2], patches.shape[3])
        for block in self.blocks:
            tokens = block(tokens)
        tokens = self.norm(tokens)
        return tokens[:, 0], tokens[:, 1:].mean(1)

    def _positions(self, height: int, width: int) -> Tensor:
        """The position of each token, interpolated from the square of patches that the network was trained with."""
        side = round((self.pos_embed.shape[1] - 1) ** 0.5)
        if (height, width) == (side, side):
            return self.pos_embed
        square = self.pos_embed[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
        scale = (height + OFFSET) / side, (width + OFFSET) / side
        found = F.interpolate(square, scale_factor=scale, mode="bicubic")
        return torch.cat([self.pos_embed[:, :1], found.flatten(2).transpose(1, 2)], 1)


class Block(nn.Module):
    """Attention and a perceptron, each normalized before, scaled after, and added."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, EPSILON), nn.LayerNorm(width, EPSILON)
        self.attn, self.mlp = Attention(width), Perceptron(width)
        self.ls1, self.ls2 = LayerScale(width), LayerScale(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """`tokens: [N, T, width]`."""
        tokens = tokens + self.ls1(self.attn(self.norm1(tokens)))
        added: Tensor = tokens + self.ls2(self.mlp(self.norm2(tokens)))
        return added


class Attention(nn.Module):
    """Attention of each token to all."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """`tokens: [N, T, width]`."""
        q, k, v = self.qkv(tokens).unflatten(2, (3, -1, HEAD_WIDTH)).permute(2, 0, 3, 1, 4)
        found: Tensor = self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return found


class Perceptron(nn.Module):
    """Two layers, four times as wide between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """`tokens: [N, T, width]`."""
        found: Tensor = self.fc2(F.gelu(self.fc1(tokens)))
        return found


class LayerScale(nn.Module):
    """A learned factor for each feature."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, tokens: Tensor) -> Tensor:
        """`tokens: [N, T, width]`."""
        return tokens * self.gamma
