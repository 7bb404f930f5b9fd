"""Single operations, each as one or more variants of which the fastest counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Run = Callable[[], object]


def variants(spec: dict[str, Any], device: torch.device) -> dict[str, Run]:
    """What to time for a workload of run.py, by the name of the variant.

    Raises KeyError for a workload of a kind that is not known.
    """
    return _KINDS[spec["kind"]](spec, device)


def _matmul(spec: dict[str, Any], device: torch.device) -> dict[str, Run]:
    a = torch.randn(spec["m"], spec["k"], device=device)
    b = torch.randn(spec["k"], spec["n"], device=device)
    return {"mm": lambda: torch.mm(a, b)}


def _conv2d(spec: dict[str, Any], device: torch.device) -> dict[str, Run]:
    layouts = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
    return {name: _conv2d_in(layout, spec, device) for name, layout in layouts.items()}


def _conv2d_in(layout: torch.memory_format, spec: dict[str, Any], device: torch.device) -> Run:
    def tensor(*shape: int) -> Tensor:
        return torch.randn(*shape, device=device).contiguous(memory_format=layout)

    kernel, stride, padding = spec["kernel"], [spec["stride"]] * 2, [spec["padding"]] * 2
    x = tensor(spec["batch"], spec["inputs"], spec["height"], spec["width"])
    weight = tensor(spec["outputs"], spec["inputs"], kernel, kernel)
    if spec["pass"] == "forward":
        return lambda: functional.conv2d(x, weight, None, stride, padding)
    grad = torch.randn_like(functional.conv2d(x, weight, None, stride, padding))
    wanted = [spec["pass"] == "input", spec["pass"] == "weight", False]
    return lambda: torch.ops.aten.convolution_backward(grad, x, weight, None, stride, padding, [1, 1], False, [0, 0], 1, wanted)


def _leaky_relu(spec: dict[str, Any], device: torch.device) -> dict[str, Run]:
    x = torch.randn(spec["elements"], device=device)
    return {"leaky_relu": lambda: functional.leaky_relu(x, 0.2)}


def _leaky_relu_backward(spec: dict[str, Any], device: torch.device) -> dict[str, Run]:
    x, grad = torch.randn(spec["elements"], device=device), torch.randn(spec["elements"], device=device)
    return {"leaky_relu_backward": lambda: torch.ops.aten.leaky_relu_backward(grad, x, 0.2, False)}


def _adam(spec: dict[str, Any], device: torch.device) -> dict[str, Run]:
    def run(**how: bool) -> Run:
        parameter = torch.randn(spec["elements"], device=device).requires_grad_()
        parameter.grad = torch.randn(spec["elements"], device=device)
        return torch.optim.Adam([parameter], 2e-4, (0.5, 0.999), **how).step

    return {"fused": run(fused=True), "foreach": run(foreach=True), "single": run(foreach=False)}


_KINDS: dict[str, Callable[[dict[str, Any], torch.device], dict[str, Run]]] = {
    "matmul": _matmul,
    "conv2d": _conv2d,
    "leaky_relu": _leaky_relu,
    "leaky_relu_backward": _leaky_relu_backward,
    "adam": _adam,
}
