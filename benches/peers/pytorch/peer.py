"""PyTorch as a peer: a worker that times workloads on request, one JSON object a line in and out (see ../README.md).

usage: peer.py [--device cpu|cuda] [--threads N]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import kernels
import networks
import torch
from torch.utils.flop_counter import FlopCounterMode

# Shortest span that is timed, in seconds: several runs of a short operation count as one sample.
SHORTEST_SPAN = 0.005
LEAST_SAMPLES = 3


class Worker:
    """Answers requests; keeps what it has prepared, so that compilation and tuning are paid once."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.prepared: dict[str, dict[str, kernels.Run]] = {}

    def info(self, _: dict[str, Any]) -> dict[str, Any]:
        """Versions and device."""
        cuda = self.device.type == "cuda"
        return {
            "peer": f"PyTorch {torch.__version__}",
            "device": torch.cuda.get_device_name(self.device) if cuda else f"CPU, {torch.get_num_threads()} threads",
            "modes": list(networks.MODES),
        }

    def model(self, request: dict[str, Any]) -> dict[str, Any]:
        """Parameters, floating-point operations of the products of a step, and losses of the first steps from hashed values."""
        spec = request["workload"]
        trainer = networks.Trainer(spec["preset"], spec["batch"], "eager", self.device)
        parameters = trainer.parameters()
        losses = list(trainer.hashed_losses(request["steps"]))
        with FlopCounterMode(display=False) as counter:
            trainer.timed_step()()
        return {"parameters": parameters, "flops": counter.get_total_flops(), "losses": losses}

    def prepare(self, request: dict[str, Any]) -> dict[str, Any]:
        """Builds a workload and runs it until nothing is compiled any more."""
        start = time.perf_counter()
        spec, mode = request["workload"], request["mode"]
        if spec["kind"] == "step":
            runs = {mode: networks.Trainer(spec["preset"], spec["batch"], mode, self.device).timed_step()}
        else:
            runs = kernels.variants(spec, self.device)
        for run in runs.values():
            for _ in range(3):
                run()
        self.synchronise()
        self.prepared[key(request)] = runs
        return {"seconds": time.perf_counter() - start}

    def time(self, request: dict[str, Any]) -> dict[str, Any]:
        """Seconds of one run, many times, for each variant of a prepared workload."""
        runs = self.prepared[key(request)]
        share = request["seconds"] / len(runs)
        return {"variants": {name: self.measure(run, share) for name, run in runs.items()}}

    def measure(self, run: Callable[[], object], seconds: float) -> list[float]:
        """Seconds of one run, sampled for about `seconds`."""
        count = max(1, round(SHORTEST_SPAN / max(self.span(run, 1), 1e-7)))
        count = max(1, round(count * SHORTEST_SPAN / max(self.span(run, count), 1e-7)))
        samples: list[float] = []
        end = time.perf_counter() + seconds
        while len(samples) < LEAST_SAMPLES or time.perf_counter() < end:
            samples.append(self.span(run, count) / count)
        return samples

    def span(self, run: Callable[[], object], count: int) -> float:
        """Seconds of `count` runs, the device idle before and after."""
        self.synchronise()
        start = time.perf_counter()
        for _ in range(count):
            run()
        self.synchronise()
        return time.perf_counter() - start

    def synchronise(self) -> None:
        """Waits for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def answer(self, line: str) -> dict[str, Any]:
        """The answer to one request; what goes wrong is an answer too."""
        operations = {"info": self.info, "model": self.model, "prepare": self.prepare, "time": self.time}
        try:
            request = json.loads(line)
            return operations[request["op"]](request)
        except Exception as error:  # One workload that a device cannot run must not end the others.
            traceback.print_exc()
            return {"error": f"{type(error).__name__}: {error}".splitlines()[0]}


def key(request: dict[str, Any]) -> str:
    """Names a prepared workload."""
    return json.dumps([request["workload"], request["mode"]], sort_keys=True)


def main() -> int:
    """Answers requests until the input ends."""
    parser = argparse.ArgumentParser(description="PyTorch worker of benches/peers/run.py.")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, help="threads of CPU operations (default: PyTorch's choice)")
    arguments = parser.parse_args()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    if arguments.device == "cuda":
        if not torch.cuda.is_available():
            print("peer.py: --device cuda, but this PyTorch sees no CUDA device", file=sys.stderr)
            return 3
        # Products in f32, as ours; the fastest algorithm that cuDNN has for each shape.
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = True
    torch.manual_seed(0)
    worker = Worker(torch.device(arguments.device))
    # Answers alone go to the output; anything that a library prints goes to the errors.
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        print(json.dumps(worker.answer(line)), file=answers, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
