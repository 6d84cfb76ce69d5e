"""One GAN step: the phase of D, then the phase of G. Each sets every condition that it needs itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from ganpipe.compute.device import Compute
from ganpipe.compute.distributed import Distributed
from ganpipe.imaging.image import ImageShape
from ganpipe.models.presentation import Presentation
from ganpipe.models.progan import Growing
from ganpipe.models.registry import Reconstructs, Styled
from ganpipe.settings.schema import Settings, TrainingSettings
from ganpipe.training.algorithm import Scalars
from ganpipe.training.augment import augment, parse_kinds
from ganpipe.training.gan_batch import D_FAKE, D_REAL, G_FAKE, G_REAL, Batch
from ganpipe.training.gradient_penalties import (
    logits_and_input_grad,
    logits_and_input_grad_functional,
    one_centered,
    select_penalty,
    zero_centered,
    zero_centered_finite_difference,
)
from ganpipe.training.losses import select_loss
from ganpipe.training.path_length import PathLength
from ganpipe.training.schedules import ScheduledValues

Network = Callable[..., Tensor]


def adam(module: nn.Module, lr: float, settings: TrainingSettings) -> torch.optim.Adam:
    """Adam with the settings' betas, in one fused pass over all weights."""
    return torch.optim.Adam(module.parameters(), lr, betas=(settings.beta1, settings.beta2), fused=True)


def _compile(gradients: Any, cuda_graphs: bool) -> Any:
    """Compiles the gradients' function. With CUDA graphs, the next call overwrites what this one returns: it is copied."""
    if not cuda_graphs:
        return torch.compile(gradients, dynamic=False)
    recorded = torch.compile(gradients, dynamic=False, mode="reduce-overhead")

    def replay(*inputs: Any) -> tuple[list[Tensor], Scalars]:
        torch.compiler.cudagraph_mark_step_begin()
        found, stats = recorded(*inputs)
        return [gradient.clone() for gradient in found], {
            name: value.clone() for name, value in stats.items()
        }

    return replay


@dataclass
class GanStep:
    """The two phases of a step, over fixed networks and optimizers. `frozen`: parameters of D that do not learn."""

    G: nn.Module
    D: nn.Module
    g_opt: torch.optim.Optimizer
    d_opt: torch.optim.Optimizer
    settings: Settings
    compute: Compute
    distributed: Distributed = field(default_factory=Distributed)
    compiled: bool = False
    frozen: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        loss = self.settings.loss
        self.loss, self.penalty = select_loss(loss), select_penalty(loss)
        self.kinds = parse_kinds(self.settings.augment.kinds)
        self.presentation = self.D if isinstance(self.D, Presentation) else Presentation()
        self.perceptual = (
            _perceptual(self.settings, self.compute) if isinstance(self.D, Reconstructs) else None
        )
        self.path_length = (
            PathLength(self.G, self.settings.loss, self.compute, self.distributed)
            if isinstance(self.G, Styled) and self.settings.loss.path_length_weight
            else None
        )
        if self.compiled:
            graphs = self.settings.training.compile == "cuda-graphs" and self.compute.device.type == "cuda"
            self._gradients: Any = _compile(self._gradients_pure, graphs)
            self._with_input_grad = logits_and_input_grad_functional
        else:
            self._gradients = self._gradients_eager
            self._with_input_grad = logits_and_input_grad

    def step(
        self, batch: Batch, scheduled_values: ScheduledValues, number: int, microbatch_images: int = 0
    ) -> Scalars:
        """One optimizer step of D on `batch.real` and G(z), then one of G.

        The batch is computed in parts of `microbatch_images` (0: at once), their gradients summed. Returns scalars that
        stay on the device: means over the batch, before any exchange between processes.
        """
        batch = self._presented(batch)
        self.G.train()
        self.D.train()
        for optimizer, lr in ((self.g_opt, scheduled_values.g_lr), (self.d_opt, scheduled_values.d_lr)):
            for group in optimizer.param_groups:
                group["lr"], group["betas"] = lr, (self.settings.training.beta1, scheduled_values.beta2)
        part_images = self._part_images(microbatch_images)
        # Without `path`, which is there at some steps only: a compiled step would be compiled again for it.
        parts = replace(batch, path=None).split(part_images or len(batch))
        # Both phases share one G(z) if the whole batch fits and G has no latents of its own.
        shared = len(parts) == 1 and batch.g_z is None and not self.compiled
        self.G.requires_grad_(shared)
        with self.compute.autocast(), torch.set_grad_enabled(shared):
            fakes = [self.G(*part.d_inputs()) for part in parts]
        numbers = self._numbers(scheduled_values, batch.real)
        d_stats = self._d_phase(parts, [fake.detach() for fake in fakes], numbers, number)
        g_stats = self._g_phase(batch, parts, fakes[0] if shared else None, numbers, part_images)
        return d_stats | g_stats | {"spread": _spread(fakes, parts)}

    def values_per_image(self, shape: ImageShape) -> int:
        """The most values that D is shown of an image: noise and directions have as many."""
        image = torch.empty(1, shape.channels, shape.height_px, shape.width_px, device="meta")
        return max(image.numel(), self.presentation.present(image).numel())

    def _presented(self, batch: Batch) -> Batch:
        """The batch with real images as D is shown them, which is how G returns its own."""
        present = self.presentation.present
        g_real = None if batch.g_real is None else present(batch.g_real)
        return replace(batch, real=present(batch.real), g_real=g_real)

    def _part_images(self, microbatch_images: int) -> int:
        """The images of a part: twice as many for each doubling that networks have yet to grow by.

        A map of half the size has a quarter of the pixels and at most twice the channels, so that memory halves at least.
        """
        return (
            microbatch_images << self.D.levels - self.D.level
            if isinstance(self.D, Growing)
            else microbatch_images
        )

    def _numbers(self, scheduled_values: ScheduledValues, like: Tensor) -> dict[str, Tensor]:
        """Scheduled values as tensors: otherwise every new value would recompile a compiled step."""
        every = self.settings.loss.penalty_every
        values = {
            "gamma": scheduled_values.gamma * every,
            "gp": self.settings.loss.gp_weight * every,
            "noise": scheduled_values.instance_noise,
            "augment": scheduled_values.augment or 0.0,
        }
        return {name: torch.tensor(value, device=like.device) for name, value in values.items()}

    def _d_phase(
        self, parts: list[Batch], fakes: list[Tensor], numbers: dict[str, Tensor], number: int
    ) -> Scalars:
        self.D.requires_grad_(True)
        self.G.requires_grad_(False)
        penalized = number % self.settings.loss.penalty_every == 0 and self.penalty != "none"
        gradients, stats = self._accumulate("D", parts, fakes, numbers, penalized, number % 4)
        below = self.settings.training.skip_d_below_loss
        skipped = below > 0 and self._loss_of_all(stats["loss_d"]) < below
        if not skipped:
            self._apply("D", gradients)
        return stats | {"d_grad": _norm(gradients), "d_skipped": torch.tensor(float(skipped))}

    def _loss_of_all(self, loss: Tensor) -> float:
        """The mean over all processes, so that all take the same decision."""
        mean = loss.clone()
        self.distributed.average_([mean])
        return float(mean)

    def _g_phase(
        self,
        batch: Batch,
        parts: list[Batch],
        fake: Tensor | None,
        numbers: dict[str, Tensor],
        microbatch_images: int,
    ) -> Scalars:
        self.D.requires_grad_(False)  # its weights' gradients would be thrown away
        self.G.requires_grad_(True)
        fakes = [fake] if fake is not None else [None for _ in parts]
        gradients, stats = self._accumulate("G", parts, fakes, numbers, False, 0)
        if self.path_length is not None and batch.path is not None:
            more, path_stats = self.path_length.gradients(batch, microbatch_images)
            torch._foreach_add_(gradients, more)
            stats |= path_stats
        self._apply("G", gradients)
        return stats | {"g_grad": _norm(gradients)}

    def _apply(self, who: str, gradients: list[Tensor]) -> None:
        """One optimizer step along these gradients."""
        self._network(who).zero_grad()  # what is not in use any more would go on moving
        for weight, gradient in zip(self._learned(who).values(), gradients, strict=True):
            weight.grad = match_strides(weight, gradient)
        (self.d_opt if who == "D" else self.g_opt).step()

    def _accumulate(
        self,
        who: str,
        parts: list[Batch],
        fakes: Any,
        numbers: dict[str, Tensor],
        penalized: bool,
        quarter: int,
    ) -> tuple[list[Tensor], Scalars]:
        """Gradient accumulation: gradients and scalars over the parts of a batch, weighted by size: means over all processes."""
        total = sum(len(part) for part in parts)
        gradients: list[Tensor] = []
        stats: Scalars = {}
        for part, fake in zip(parts, fakes, strict=True):
            share = len(part) / total
            some, some_stats = self._gradients(who, part, fake, numbers, penalized, quarter)
            if share < 1:
                some, some_stats = [g * share for g in some], {k: v * share for k, v in some_stats.items()}
            if gradients:
                torch._foreach_add_(gradients, list(some))
                stats = {name: stats[name] + value for name, value in some_stats.items()}
            else:
                gradients, stats = list(some), some_stats
        self.distributed.average_(gradients)
        return gradients, stats

    def _network(self, who: str) -> nn.Module:
        return self.D if who == "D" else self.G

    def _learned(self, who: str) -> dict[str, Tensor]:
        """The parameters that learn, by name: not those frozen, nor those of layers that are not in use."""
        network = self._network(who)
        still = self.frozen if who == "D" else frozenset()
        if isinstance(network, Growing):
            still |= network.unused()
        return {name: weight for name, weight in network.named_parameters() if name not in still}

    def _gradients_eager(self, who: str, part: Batch, fake: Tensor | None, *rest: Any) -> tuple[Any, Scalars]:
        network = self._network(who)
        total, stats = self._objective(who, network, part, fake, *rest)
        learned = list(self._learned(who).values())
        return torch.autograd.grad(total, learned, materialize_grads=True), stats

    def _gradients_pure(self, who: str, part: Batch, fake: Tensor | None, *rest: Any) -> tuple[Any, Scalars]:
        """The same as a function of the weights, which torch.compile can differentiate twice."""
        network = self._network(who)

        def objective(weights: dict[str, Tensor]) -> tuple[Tensor, Scalars]:
            def call(*inputs: Any) -> Any:
                return functional_call(network, weights, inputs)

            return self._objective(who, call, part, fake, *rest)

        gradients, stats = torch.func.grad(objective, has_aux=True)(self._learned(who))
        return list(gradients.values()), stats

    def _objective(
        self,
        who: str,
        network: Any,
        part: Batch,
        fake: Tensor | None,
        numbers: dict[str, Tensor],
        penalized: bool,
        quarter: int,
    ) -> tuple[Tensor, Scalars]:
        with self.compute.autocast():
            if who == "D":
                assert fake is not None
                return self._d_objective(network, part, fake, numbers, penalized, quarter)
            return self._g_objective(network, part, fake, numbers)

    def _d_objective(
        self, D: Any, part: Batch, fake: Tensor, numbers: dict[str, Tensor], penalized: bool, quarter: int
    ) -> tuple[Tensor, Scalars]:
        """D's loss and its scalars. Gradient penalties are taken at the images before augmentation."""

        def real_critic(images: Tensor) -> Tensor:
            return D(self._augmented(images, part, D_REAL, numbers), part.labels).float()

        def fake_critic(images: Tensor) -> Tensor:
            return D(self._augmented(images, part, D_FAKE, numbers), part.labels).float()

        fake = fake.float()
        kind = self.penalty if penalized else "none"
        stats: Scalars = {}
        extra = torch.zeros((), device=fake.device)
        reconstructions = None
        if self.perceptual is not None and isinstance(D, Reconstructs):
            logits, reconstructions = D.reconstruct(
                self._augmented(part.real, part, D_REAL, numbers), quarter
            )
            real_logits = logits.float()
            stats["recon_loss"] = torch.stack(
                [self.perceptual(a.float(), b) for a, b in reconstructions]
            ).mean()
            extra = extra + stats["recon_loss"] * len(reconstructions)
        if reconstructions is None or kind in ("r1", "both"):
            real_logits, r1 = self._logits_and_penalty(
                real_critic, part.real, part, 0, kind in ("r1", "both")
            )
            if r1 is not None:
                stats["r1"], extra = r1, extra + numbers["gamma"] * r1
        fake_logits, r2 = self._logits_and_penalty(fake_critic, fake, part, 1, kind in ("r2", "both"))
        if r2 is not None:
            stats["r2"], extra = r2, extra + numbers["gamma"] * r2
        if kind == "interpolated":
            assert part.mix is not None
            between = torch.lerp(fake, part.real, part.mix.view(-1, *[1] * (fake.ndim - 1)))
            _, input_grad = self._with_input_grad(real_critic, between)
            # The mean of each scale's own penalty (MSG-GAN, section 2).
            stats["gp"] = torch.stack(
                [one_centered(grad) for grad in self.presentation.scales(input_grad)]
            ).mean()
            extra = extra + numbers["gp"] * stats["gp"]
        if drift := self.settings.loss.drift:  # ProGAN, appendix A.1
            extra = extra + drift * real_logits.square().mean()
        adversarial = self.loss.d_loss(real_logits, fake_logits)
        stats |= {
            "loss_d": adversarial,
            "d_real": real_logits.mean(),
            "d_fake": fake_logits.mean(),
            # Its mean is 0 if D cannot tell the two apart and 1 if it always can. A pair, because a constant
            # added to all logits changes nothing in a relativistic loss.
            "d_sign": (real_logits - fake_logits).sign().mean(),
        }
        return adversarial + extra, {name: value.detach() for name, value in stats.items()}

    def _logits_and_penalty(
        self, critic: Network, images: Tensor, part: Batch, which: int, with_penalty: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Logits, and the zero-centered gradient penalty if it is due."""
        if not with_penalty:
            return critic(images), None
        if self.settings.loss.penalty_method == "finite-difference":
            assert part.directions is not None
            logits = critic(images)
            direction = fit(part.directions[:, which], images)
            return logits, zero_centered_finite_difference(critic, images, logits, direction)
        logits, input_grad = self._with_input_grad(critic, images)
        return logits, zero_centered(input_grad)

    def _g_objective(
        self, G: Any, part: Batch, fake: Tensor | None, numbers: dict[str, Tensor]
    ) -> tuple[Tensor, Scalars]:
        labels = part.labels if part.g_labels is None else part.g_labels
        if fake is None:
            fake = G(*part.g_inputs())
        fake_logits = self.D(self._augmented(fake.float(), part, G_FAKE, numbers), labels).float()
        real_logits = torch.zeros_like(fake_logits)
        if self.loss.pairs:
            real = part.real if part.g_real is None else part.g_real
            with torch.no_grad():
                real_logits = self.D(self._augmented(real, part, G_REAL, numbers), labels).float()
        loss = self.loss.g_loss(fake_logits, real_logits)
        return loss, {"loss_g": loss.detach()}

    def _augmented(self, images: Tensor, part: Batch, which: int, numbers: dict[str, Tensor]) -> Tensor:
        """The images that D sees: with instance noise, augmented."""
        if part.noise is not None:
            images = images + numbers["noise"] * fit(part.noise[:, which], images)
        if part.draws is not None:
            # Coordinates need more than bf16's 8 bits.
            with torch.autocast(images.device.type, enabled=False):
                scales, draws = self.presentation.scales(images.float()), part.draws[:, which]
                images = self.presentation.join(
                    tuple(
                        augment(x, draws, numbers["augment"], self.kinds, scales[0].shape[2] // x.shape[2])
                        for x in scales
                    )
                )
        return images


def fit(values: Tensor, like: Tensor) -> Tensor:
    """As many of the values `[N, V]` as there are in `like: [N, …]`, in its shape."""
    return values[:, : like[0].numel()].view(like.shape)


def match_strides(weight: Tensor, gradient: Tensor) -> Tensor:
    """The gradient with the weight's strides.

    `backward` sees to that; `autograd.grad` does not, and a double backward returns transposed strides for
    channels-last weights. Fused Adam on a CPU reads both by their addresses, and would silently mix the numbers up.
    """
    if gradient.stride() == weight.stride():
        return gradient
    return torch.empty_like(weight).copy_(gradient)


def _spread(fakes: list[Tensor], parts: list[Batch]) -> Tensor:
    """Standard deviation of the fake images of a batch, as a share of the real ones'."""
    fake = torch.cat([f.detach() for f in fakes]) if len(fakes) > 1 else fakes[0].detach()
    real = torch.cat([p.real for p in parts]) if len(parts) > 1 else parts[0].real
    return _deviation(fake.float()) / _deviation(real).clamp_min(1e-6)


def _deviation(x: Tensor) -> Tensor:
    """Standard deviation over the batch, averaged over the pixels."""
    return (x.square().mean(0) - x.mean(0).square()).clamp_min(0).sqrt().mean()


def _norm(gradients: list[Tensor]) -> Tensor:
    return torch.nn.utils.get_total_norm(gradients)


def _perceptual(settings: Settings, compute: Compute) -> Callable[[Tensor, Tensor], Tensor]:
    """The reconstruction loss of images `[N, C, H, W]` in `[-1, 1]`: mean squares of pixels or of VGG19 features."""
    if settings.model.recon_loss == "mse":
        return F.mse_loss
    from ganpipe.vgg19.network import Vgg19

    layers = ("relu1_2", "relu2_2", "relu3_3")
    network = Vgg19(layers[-1]).to(compute.device)

    def distance(reconstructions: Tensor, seen: Tensor) -> Tensor:
        a, b = (network((x[:, :3].expand(-1, 3, -1, -1) + 1) / 2, layers) for x in (reconstructions, seen))
        # Each layer by the mean square of what was seen, so that none outweighs the others.
        parts = [F.mse_loss(a[k], b[k]) / b[k].detach().square().mean().clamp_min(1e-6) for k in layers]
        return torch.stack(parts).mean()

    return distance
