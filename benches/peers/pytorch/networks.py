"""The networks of two presets and their training step, as src/nn/presets.rs and src/gan/step.rs have them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Z_DIM = 100
LEARNING_RATE = 2e-4
BETAS = (0.5, 0.999)
# Batches in the resident data set of a timed step.
RESIDENT_BATCHES = 16
MODES = ("eager", "channels_last", "compile", "compile_channels_last")


def _dcgan_32() -> tuple[nn.Sequential, nn.Sequential]:
    def up(inputs: int, outputs: int, stride: int, padding: int) -> list[nn.Module]:
        return [nn.ConvTranspose2d(inputs, outputs, 4, stride, padding, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]

    def down(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2)]

    generator = nn.Sequential(
        nn.Unflatten(1, (Z_DIM, 1, 1)),
        *up(Z_DIM, 256, 1, 0),
        *up(256, 128, 2, 1),
        *up(128, 64, 2, 1),
        nn.ConvTranspose2d(64, 1, 4, 2, 1, bias=False),
        nn.Tanh(),
    )
    discriminator = nn.Sequential(
        nn.Conv2d(1, 64, 4, 2, 1, bias=False),
        nn.LeakyReLU(0.2),
        *down(64, 128),
        *down(128, 256),
        nn.Conv2d(256, 1, 4, 1, 0, bias=False),
        nn.Flatten(),
    )
    return generator, discriminator


def _mlp() -> tuple[nn.Sequential, nn.Sequential]:
    def dense(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Linear(inputs, outputs), nn.LeakyReLU(0.2)]

    generator = nn.Sequential(
        *dense(Z_DIM, 256), *dense(256, 512), *dense(512, 1024), nn.Linear(1024, 784), nn.Tanh(), nn.Unflatten(1, (1, 28, 28))
    )
    discriminator = nn.Sequential(nn.Flatten(), *dense(784, 512), *dense(512, 256), nn.Linear(256, 1))
    return generator, discriminator


@dataclass(frozen=True)
class Preset:
    """A pair of networks for grey images of one side."""

    side: int
    networks: Callable[[], tuple[nn.Sequential, nn.Sequential]]


PRESETS = {"dcgan-32": Preset(32, _dcgan_32), "mlp": Preset(28, _mlp)}


def hashed(count: int, stream: int) -> Tensor:
    """`count` numbers in [-1, 1) from an integer hash of index and stream: the same numbers in every peer."""
    mask = 0xFFFFFFFF
    h = (torch.arange(count, dtype=torch.int64) * 747796405 + (stream + 1) * 2891336453) & mask
    h = ((h ^ (h >> 16)) * 0x45D9F3B) & mask
    h = h ^ (h >> 16)
    return (h.double() / 2**31 - 1.0).float()


def hashed_images(count: int, side: int, stream: int) -> Tensor:
    """Grey images of hashed pixels in [-1, 1), shape (count, 1, side, side)."""
    return hashed(count * side * side, stream).reshape(count, 1, side, side)


def hashed_z(batch: int, stream: int) -> Tensor:
    """z of hashed numbers with variance 1, shape (batch, Z_DIM)."""
    return (hashed(batch * Z_DIM, stream) * math.sqrt(3.0)).reshape(batch, Z_DIM)


@torch.no_grad()
def _set_parameters(network: nn.Module, stream: int) -> None:
    """Convolutions get hashed values of standard deviation 0.02, linear layers of bound 1/sqrt(inputs); norms start as the identity."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            bound = 0.02 * math.sqrt(3.0)
        elif isinstance(module, nn.Linear):
            bound = 1.0 / math.sqrt(module.in_features)
        else:
            continue
        for parameter in module.parameters(recurse=False):
            parameter.copy_(hashed(parameter.numel(), stream).reshape(parameter.shape) * bound)
            stream += 1


class Trainer:
    """Both networks of a preset with their optimisers, and one training step of them."""

    def __init__(self, preset: str, batch: int, mode: str, device: torch.device) -> None:
        self.preset = PRESETS[preset]
        self.batch = batch
        self.device = device
        self.layout = torch.channels_last if mode.endswith("channels_last") else torch.contiguous_format
        generator, discriminator = self.preset.networks()
        _set_parameters(generator, 0)
        _set_parameters(discriminator, 100)
        self.generator = generator.to(device).to(memory_format=self.layout)
        self.discriminator = discriminator.to(device).to(memory_format=self.layout)
        self.optimiser_g = torch.optim.Adam(self.generator.parameters(), LEARNING_RATE, BETAS, fused=True)
        self.optimiser_d = torch.optim.Adam(self.discriminator.parameters(), LEARNING_RATE, BETAS, fused=True)
        compiled = mode.startswith("compile")
        # Shapes never change.
        self.run_g = torch.compile(self.generator, dynamic=False) if compiled else self.generator
        self.run_d = torch.compile(self.discriminator, dynamic=False) if compiled else self.discriminator
        self.loss = nn.BCEWithLogitsLoss()
        self.ones = torch.ones(batch, 1, device=device)
        self.zeros = torch.zeros(batch, 1, device=device)

    def parameters(self) -> dict[str, int]:
        """Number of parameters of G and of D."""
        return {name: sum(p.numel() for p in network.parameters()) for name, network in (("G", self.generator), ("D", self.discriminator))}

    def place(self, images: Tensor) -> Tensor:
        """Images on the device, in the layout of the mode."""
        return images.to(self.device).contiguous(memory_format=self.layout)

    def step(self, real: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """D learns from reals and detached fakes, then G learns to pass the updated D; returns D's and G's loss."""
        fake = self.run_g(z)
        self.optimiser_d.zero_grad()
        loss_d = self.loss(self.run_d(real), self.ones) + self.loss(self.run_d(fake.detach()), self.zeros)
        loss_d.backward()
        self.optimiser_d.step()
        # G's update looks through D: no gradients of D's weights.
        self.discriminator.requires_grad_(False)
        self.optimiser_g.zero_grad()
        loss_g = self.loss(self.run_d(fake), self.ones)
        loss_g.backward()
        self.optimiser_g.step()
        self.discriminator.requires_grad_(True)
        return loss_d.detach(), loss_g.detach()

    def hashed_losses(self, steps: int) -> Iterator[tuple[float, float]]:
        """Losses of D and G on hashed batches: equal in every peer, which proves that they compute the same step."""
        for step in range(steps):
            real = self.place(hashed_images(self.batch, self.preset.side, 1000 + 2 * step))
            z = hashed_z(self.batch, 1001 + 2 * step).to(self.device)
            loss_d, loss_g = self.step(real, z)
            yield loss_d.item(), loss_g.item()

    def timed_step(self) -> Callable[[], object]:
        """A step on the next batch of a resident data set, with z drawn on the device."""
        images = self.place(hashed_images(RESIDENT_BATCHES * self.batch, self.preset.side, 1000))
        # Tensors of their own, not views: compiled code would be specialised to the first one's offset.
        batches = [batch.clone(memory_format=self.layout) for batch in torch.split(images, self.batch)]
        done = 0

        def run() -> object:
            nonlocal done
            done += 1
            z = torch.randn(self.batch, Z_DIM, device=self.device)
            return self.step(batches[done % RESIDENT_BATCHES], z)

        return run
