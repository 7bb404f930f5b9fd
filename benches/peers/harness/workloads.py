"""What is compared: whole training steps and single operations, with the useful work of one run of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

BATCH = 64


@dataclass(frozen=True)
class Workload:
    """One thing to time."""

    # Name in the tables, and of our own result in `ganymede bench`.
    name: str
    # "step" or "kernels".
    group: str
    # Unit of the rates.
    unit: str
    # Work of one run in that unit times a second: images, 1e9 floating-point operations, 1e9 bytes.
    work: float
    # What the peers' workers are asked for.
    spec: dict[str, Any]

    def rate(self, seconds: float) -> float:
        """The rate of a run of that length."""
        return self.work / seconds


def _step(preset: str) -> Workload:
    return Workload(f"{preset}, batch {BATCH}", "step", "images/s", BATCH, {"kind": "step", "preset": preset, "batch": BATCH})


def _matmul(size: int) -> Workload:
    spec = {"kind": "matmul", "m": size, "n": size, "k": size}
    return Workload(f"matmul {size}x{size}x{size}", "kernels", "GFLOP/s", 2 * size**3 / 1e9, spec)


def _conv2d(direction: str, inputs: int, side: int, outputs: int) -> Workload:
    """A 4x4 convolution of stride 2 and padding 1 that halves the side; taps in the padding count as work, as everywhere."""
    operation = {"forward": "conv2d_forward", "input": "conv2d_backward_input", "weight": "conv2d_backward_weight"}[direction]
    flops = 2 * BATCH * (side // 2) ** 2 * outputs * inputs * 16
    spec = {
        "kind": "conv2d", "pass": direction, "batch": BATCH, "inputs": inputs, "height": side, "width": side,
        "outputs": outputs, "kernel": 4, "stride": 2, "padding": 1,
    }  # fmt: skip
    name = f"{operation} n{BATCH} c{inputs} {side}x{side} -> c{outputs} k4 s2 p1"
    return Workload(name, "kernels", "GFLOP/s", flops / 1e9, spec)


def _elementwise(kind: str, name: str, elements: int, bytes_each: int) -> Workload:
    return Workload(name, "kernels", "GB/s", elements * bytes_each / 1e9, {"kind": kind, "elements": elements})


# (inputs, side, outputs): the inner layers of dcgan-32 and dcgan-64, then first layers. Input gradients of first layers are the forward
# passes of G's last layers.
_CONVOLUTIONS = [(64, 16, 128), (128, 8, 256), (64, 32, 128), (1, 32, 64), (3, 64, 64)]

WORKLOADS: list[Workload] = [
    _step("dcgan-32"),
    _step("mlp"),
    _matmul(512),
    _matmul(1024),
    *(_conv2d(direction, *shape) for shape in _CONVOLUTIONS for direction in ("forward", "input", "weight")),
    # Each element is read and written; the backward pass reads two.
    _elementwise("leaky_relu", "leaky_relu (256, 12544)", 256 * 12544, 8),
    _elementwise("leaky_relu_backward", "leaky_relu_backward (256, 12544)", 256 * 12544, 12),
    # dcgan-32's generator, padding included: reads of parameter, gradient and both moments, writes of all but the gradient.
    _elementwise("adam", "adam 1069952 words", 1_069_952, 28),
]


@dataclass(frozen=True)
class Expected:
    """What a peer's step must give, from values that all peers make alike: PyTorch's losses of D and G in the first steps."""

    losses: tuple[tuple[float, float], ...]


# PyTorch 2.15.0, CPU, eager. Our own step is held to PyTorch's by tests/golden and tests/trajectory.rs.
EXPECTED: dict[str, Expected] = {
    "dcgan-32": Expected(((1.700631, 2.444983), (1.341665, 2.569535), (1.209596, 2.502458))),
    "mlp": Expected(((1.400659, 0.686044), (1.390776, 0.673629), (1.380262, 0.662271))),
}
# Steps of rounding in another order; a wrong momentum, epsilon or batch-norm mode changes the third step by percents.
LOSS_TOLERANCE = 2e-3
