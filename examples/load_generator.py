"""Loads the generator of a `dcgan-28-small` run into PyTorch: python load_generator.py CHECKPOINT [Z.safetensors [OUT.safetensors]]

Z holds a tensor `z` of shape (N, 100), random where none is given; if it also holds `images`, as `ganymede sample --out Z.safetensors` writes them, the
two are compared. OUT gets `images`, shape (N, 1, 28, 28), values in [-1, 1].
"""

import sys

import torch
from safetensors.torch import load_file, save_file
from torch import nn

generator = nn.Sequential(
    nn.ConvTranspose2d(100, 64, 7, 1, 0, bias=False), nn.BatchNorm2d(64), nn.ReLU(),
    nn.ConvTranspose2d(64, 32, 4, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
    nn.ConvTranspose2d(32, 1, 4, 2, 1), nn.Tanh(),
)  # fmt: skip
checkpoint = load_file(sys.argv[1])
generator.load_state_dict({key.removeprefix("G_ema."): value for key, value in checkpoint.items() if key.startswith("G_ema.")})
generator.eval()  # batch norm by the averaged running statistics

given = load_file(sys.argv[2]) if len(sys.argv) > 2 else {"z": torch.randn(16, 100)}
with torch.no_grad():
    images = generator(given["z"].reshape(-1, 100, 1, 1)).contiguous()
print(f"images {tuple(images.shape)}, values from {images.min():.3f} to {images.max():.3f}")
if "images" in given:
    print(f"largest difference from ganymede: {(images - given['images']).abs().max():.1e}")
if len(sys.argv) > 3:
    save_file({"images": images}, sys.argv[3])
