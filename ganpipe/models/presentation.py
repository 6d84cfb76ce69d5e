"""How a discriminator is shown images while it trains: as they are, smaller (ProGAN) or at several scales (MSG-GAN)."""

from __future__ import annotations

from torch import Tensor


class Presentation:
    """Shows images as they are. A discriminator that is shown them otherwise inherits from this class.

    Its generator returns the same form in training mode. In evaluation mode both know images of full size only.
    """

    def present(self, images: Tensor) -> Tensor:
        """The form in which D is shown images `[N, C, H, W]` of full size; its first two dimensions are N and C."""
        return images

    def scales(self, shown: Tensor) -> tuple[Tensor, ...]:
        """The images `[N, C, h, w]` in that form, the largest first."""
        return (shown,)

    def join(self, scales: tuple[Tensor, ...]) -> Tensor:
        """The inverse of `scales`."""
        return scales[0]
