"""The DCGAN recipe of pytorch/examples, re-written from its description: what the comparisons play against."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

Z_DIM, NARROWEST, BASE_PX = 100, 64, 4


@dataclass
class Recipe:
    """The networks for square images of 32 or 64 pixels, float32, contiguous: BCE on sigmoids, Adam 2e-4, β1 0.5."""

    side_px: int
    channels: int

    def __post_init__(self) -> None:
        up, down, leaky = nn.ConvTranspose2d, nn.Conv2d, nn.LeakyReLU(0.2, inplace=True)
        doublings = (self.side_px // BASE_PX).bit_length() - 1
        wide = [NARROWEST * 2**level for level in range(doublings)]

        def block(conv: nn.Module, width: int, act: nn.Module) -> list[nn.Module]:
            return [conv, nn.BatchNorm2d(width), act]

        layers = block(up(Z_DIM, wide[-1], 4, 1, 0, bias=False), wide[-1], nn.ReLU(True))
        for a, b in pairwise(reversed(wide)):
            layers += block(up(a, b, 4, 2, 1, bias=False), b, nn.ReLU(True))
        self.G = nn.Sequential(*layers, up(wide[0], self.channels, 4, 2, 1, bias=False), nn.Tanh())
        layers = [down(self.channels, wide[0], 4, 2, 1, bias=False), leaky]
        for a, b in pairwise(wide):
            layers += block(down(a, b, 4, 2, 1, bias=False), b, leaky)
        self.D = nn.Sequential(*layers, down(wide[-1], 1, 4, 1, 0, bias=False), nn.Sigmoid(), nn.Flatten(0))
        for module in [*self.G.modules(), *self.D.modules()]:
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, 0.0, 0.02)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1.0, 0.02)
        self.g_opt, self.d_opt = (
            torch.optim.Adam(m.parameters(), lr=2e-4, betas=(0.5, 0.999)) for m in (self.G, self.D)
        )
        self.criterion = nn.BCELoss()

    def step(self, real: Tensor) -> tuple[Tensor, Tensor]:
        """The two phases on `real: [N, C, H, W]`; D's and G's losses."""
        ones, zeros = torch.ones(len(real)), torch.zeros(len(real))
        self.D.zero_grad()
        on_real = self.criterion(self.D(real), ones)
        on_real.backward()
        fake = self.G(torch.randn(len(real), Z_DIM, 1, 1))
        on_fake = self.criterion(self.D(fake.detach()), zeros)
        on_fake.backward()
        self.d_opt.step()
        self.G.zero_grad()
        for_g = self.criterion(self.D(fake), ones)
        for_g.backward()
        self.g_opt.step()
        return on_real + on_fake, for_g
