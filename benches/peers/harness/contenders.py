"""Who is timed: our own binary, one process a measurement, and the peers, one worker process each."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .errors import EnvironmentTrouble
from .workloads import Workload

# Rates of one measurement by variant (the memory layouts of a convolution, say), of which the fastest counts.
Rates = dict[str, list[float]]


class PeerFailed(Exception):
    """A peer cannot do something; the others go on."""


class Ours:
    """Our own binary."""

    name = "ganymede"

    def __init__(self, command: Sequence[str], patience: float) -> None:
        self.command = list(command)
        self.patience = patience
        self.adapter: Any = None

    def run(self, *arguments: str) -> str:
        """The output of a run."""
        command = [*self.command, *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=self.patience, check=False)
        except OSError as error:
            raise EnvironmentTrouble(
                f"cannot run {command[0]}: {error.strerror}; build it (cargo build --release) or name it by --ours"
            ) from error
        except subprocess.TimeoutExpired as error:
            raise EnvironmentTrouble(f"`{' '.join(command)}` took longer than --patience {self.patience:.0f} s") from error
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["(no message)"])[-1]
            raise EnvironmentTrouble(f"`{' '.join(command)}` ended with status {done.returncode}: {last}")
        return done.stdout

    def time(self, workload: Workload, seconds: float) -> Rates:
        """Rates of a workload."""
        if workload.group == "step":
            spec = workload.spec
            arguments = ["step", "--preset", spec["preset"], "--batch", str(spec["batch"]), "--seconds", str(seconds)]
        else:
            arguments = ["kernels", "--filter", workload.name, "--seconds", str(seconds)]
        text = self.run("bench", *arguments, "--json", "-")
        try:
            report = json.loads(text)
            self.adapter = report["adapter"]
            results = {r["name"]: [float(rate) for rate in r["samples"]] for r in report["results"] if r["unit"] == workload.unit}
        except (ValueError, KeyError, TypeError) as error:
            raise EnvironmentTrouble(f"`bench {' '.join(arguments)}` gave something else than its JSON report: {error!r}") from error
        if workload.name not in results:
            raise PeerFailed(f"there is no such result in {workload.unit}; `bench {' '.join(arguments)}` gave {list(results)}")
        return {"default": results[workload.name]}

    def facts(self, preset: str, batch: int) -> tuple[dict[str, int], float]:
        """Number of parameters of G and D, and floating-point operations of the products of a step."""
        options = ["--preset", preset, "--batch", str(batch)]
        summary = self.run("summary", "--preset", preset)
        parameters = dict(zip("GD", (int(n) for n in re.findall(r"^\s*total, of one sample\s+(\d+)\s", summary, re.MULTILINE)), strict=False))
        plan = self.run("plan", *options)
        # Label, [variant,] workgroups, MFLOP.
        products = re.findall(r"\.gemm_\S+\s.*?\d+x\d+x\d+\s+([\d.]+)", plan)
        if len(parameters) != 2 or not products:
            raise EnvironmentTrouble("the output of `summary` or `plan` has changed: no parameters or no products were found in it")
        return parameters, sum(map(float, products)) * 1e6


class Peer:
    """A worker process that answers requests, one JSON object a line."""

    def __init__(self, name: str, command: Sequence[str], log: Path, environment: dict[str, str], patience: float) -> None:
        self.name = name
        self.patience = patience
        self.log = log
        pipe = subprocess.PIPE
        try:
            with log.open("wb") as errors:
                # In the folder of the logs: what a peer caches beside itself stays out of the source tree.
                self.process = subprocess.Popen(
                    list(command), stdin=pipe, stdout=pipe, stderr=errors, env=environment, cwd=log.parent, text=True
                )
        except OSError as error:
            raise PeerFailed(f"cannot start {command[0]}: {error.strerror}") from error
        try:
            self.info = self.ask({"op": "info"})
        except PeerFailed:
            self.close()
            raise

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request; a worker that takes too long is ended."""
        assert self.process.stdin is not None and self.process.stdout is not None
        late = threading.Timer(self.patience, self.process.kill)
        late.start()
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
            answer: dict[str, Any] | None = json.loads(line) if line else None
        except (OSError, ValueError) as error:
            raise PeerFailed(f"the worker does not answer ({error}){self._last_words()}") from error
        finally:
            late.cancel()
        if answer is None:
            status = self.process.wait()
            raise PeerFailed(
                f"the worker ended with status {status}, or took longer than --patience {self.patience:.0f} s{self._last_words()}"
            )
        if "error" in answer:
            raise PeerFailed(f"{answer['error']} (see {self.log})")
        return answer

    def _last_words(self) -> str:
        """The last line of the worker's log."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return f"; its last words: {lines[-1]} (all in {self.log})" if lines else ""

    @property
    def alive(self) -> bool:
        """Whether the worker still runs."""
        return self.process.poll() is None

    def close(self) -> None:
        """Ends the worker."""
        if self.process.stdin is not None and not self.process.stdin.closed:
            # Where the worker has ended by itself there is nobody left to tell.
            with contextlib.suppress(OSError):
                self.process.stdin.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Mode:
    """A peer in one of its modes: a column of the comparison."""

    def __init__(self, peer: Peer, mode: str) -> None:
        self.peer = peer
        self.mode = mode
        self.name = peer.name if mode in ("default", "") else f"{peer.name} {mode}"

    def prepare(self, workload: Workload) -> float:
        """Compiles and tunes; seconds that it took."""
        return float(self.peer.ask({"op": "prepare", "workload": workload.spec, "mode": self.mode})["seconds"])

    def time(self, workload: Workload, seconds: float) -> Rates:
        """Rates of a prepared workload."""
        answer = self.peer.ask({"op": "time", "workload": workload.spec, "mode": self.mode, "seconds": seconds})
        return {name: [workload.rate(s) for s in samples] for name, samples in answer["variants"].items()}
