#!/usr/bin/env python3
"""Times Ganymede and its peers in turn on the same machine and reports the ratios (see README.md).

Needs nothing but the Python standard library; peers that are not installed are named and left out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.contenders import Mode, Ours, Peer, PeerFailed
from harness.errors import EnvironmentTrouble, InputError
from harness.report import Series, as_json, markdown, number
from harness.workloads import EXPECTED, LOSS_TOLERANCE, WORKLOADS, Workload

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
EXE = ".exe" if os.name == "nt" else ""
PEERS = ("pytorch", "burn-flex", "burn-wgpu")


@dataclass
class Skipped:
    """What was left out, and why."""

    what: str
    why: str


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=9, metavar="N", help="rounds; each times everyone once (default: 9)")
    parser.add_argument("--seconds", type=float, default=2.0, metavar="S", help="length of one measurement (default: 2)")
    parser.add_argument("--only", choices=["step", "kernels"], help="training steps alone, or single operations alone")
    parser.add_argument("--filter", default="", metavar="TEXT", help="workloads whose name contains TEXT")
    parser.add_argument("--peers", default=",".join(PEERS), metavar="LIST", help=f"who is compared with (default: {','.join(PEERS)})")
    parser.add_argument(
        "--modes",
        default="eager,channels_last,compile",
        metavar="LIST",
        help="modes of PyTorch's steps: eager, channels_last, compile, compile_channels_last (default: the first three)",
    )
    parser.add_argument("--cores", metavar="LIST", help="cores that everyone is pinned to, as in 0,1 or 0-3, with as many threads (Linux)")
    parser.add_argument("--torch-device", choices=["cpu", "cuda"], default="cpu", help="where PyTorch runs (default: cpu)")
    parser.add_argument(
        "--torch-python", metavar="FILE", help="the Python that has torch (default: pytorch/.venv beside this script, else this Python)"
    )
    parser.add_argument("--burn", metavar="FILE", help="burn's worker (default: burn/target/release/ganymede-peer-burn beside this script)")
    parser.add_argument(
        "--ours",
        default=str(ROOT / "target" / "release" / f"ganymede{EXE}"),
        metavar="FILE",
        help="our binary (default: target/release/ganymede)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=ROOT / "target" / "peers",
        metavar="FOLDER",
        help="where peers.json, peers.md and logs go (default: target/peers)",
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=900.0,
        metavar="S",
        help="longest wait for one answer: burn's wgpu backend tunes for minutes (default: 900)",
    )
    arguments = parser.parse_args(argv)
    if arguments.pairs < 1:
        raise InputError(f"--pairs: expected 1 or more, got {arguments.pairs}")
    if not arguments.seconds > 0 or not arguments.patience > 0:
        raise InputError("--seconds, --patience: expected more than 0")
    return arguments


def chosen(flag: str, text: str, known: tuple[str, ...]) -> list[str]:
    """The items of a comma-separated flag."""
    items = [item.strip() for item in text.split(",") if item.strip()]
    for item in items:
        if item not in known:
            raise InputError(f"{flag}: there is no {item!r}; expected some of {', '.join(known)}")
    return items


def cores(text: str) -> list[int]:
    """The cores of `--cores`."""
    found: set[int] = set()
    try:
        for part in text.split(","):
            first, _, last = part.partition("-")
            found.update(range(int(first), int(last or first) + 1))
    except ValueError:
        raise InputError(f"--cores: expected numbers as in 0,1 or 0-3, got {text!r}") from None
    if not hasattr(os, "sched_setaffinity"):
        raise InputError("--cores: this system cannot pin a process to cores; leave the flag out")
    have = os.sched_getaffinity(0)
    if not found or not found <= have:
        raise InputError(f"--cores: expected some of {sorted(have)}, got {text!r}")
    return sorted(found)


def pin(chosen_cores: list[int]) -> None:
    """Pins this process, and with it all that it starts, and makes every thread pool as large as the set of cores."""
    os.sched_setaffinity(0, chosen_cores)
    for variable in ("LP_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"):
        os.environ[variable] = str(len(chosen_cores))


def torch_command(arguments: argparse.Namespace, threads: int | None) -> list[str]:
    """How to start PyTorch's worker."""
    own = HERE / "pytorch" / ".venv" / ("Scripts" if os.name == "nt" else "bin") / f"python{EXE}"
    python = arguments.torch_python or (str(own) if own.exists() else sys.executable)
    try:
        found = subprocess.run([python, "-c", "import torch"], capture_output=True, timeout=300, check=False).returncode == 0
    except OSError:
        found = False
    if not found:
        venv = own.parent.parent.relative_to(Path.cwd()) if own.is_relative_to(Path.cwd()) else own.parent.parent
        raise PeerFailed(
            f"{python} has no torch; install it with `python3 -m venv {venv} && {venv}/bin/pip install -r {venv.parent}/requirements.txt`"
            " or name a Python that has it by --torch-python"
        )
    options = ["--device", arguments.torch_device] + (["--threads", str(threads)] if threads else [])
    return [python, str(HERE / "pytorch" / "peer.py"), *options]


def burn_command(arguments: argparse.Namespace, backend: str) -> list[str]:
    """How to start burn's worker."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", HERE / "burn" / "target"))
    binary = Path(arguments.burn) if arguments.burn else target / "release" / f"ganymede-peer-burn{EXE}"
    if not binary.is_file():
        build = f"cargo build --release --locked --manifest-path {HERE / 'burn' / 'Cargo.toml'}"
        raise PeerFailed(f"{binary} is not there; build it with `{build}` (ten quiet minutes and 4 GB) or name it by --burn")
    return [str(binary.resolve()), backend]


def start_peers(arguments: argparse.Namespace, threads: int | None, skipped: list[Skipped]) -> list[Peer]:
    """Starts the workers; what is missing is noted."""
    commands: dict[str, Callable[[], list[str]]] = {
        "pytorch": lambda: torch_command(arguments, threads),
        "burn-flex": lambda: burn_command(arguments, "flex"),
        "burn-wgpu": lambda: burn_command(arguments, "wgpu"),
    }
    peers = []
    for name in chosen("--peers", arguments.peers, PEERS):
        try:
            peers.append(Peer(name, commands[name](), arguments.out / f"{name}.log", dict(os.environ), arguments.patience))
        except PeerFailed as error:
            skip(skipped, name, str(error))
    return peers


def skip(skipped: list[Skipped], what: str, why: str) -> None:
    """Notes what is left out, and says so at once."""
    skipped.append(Skipped(what, why))
    say(f"skipped {what}: {why}")


def say(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)


def check_models(ours: Ours, peers: list[Peer], steps: list[Workload], skipped: list[Skipped]) -> tuple[list[Peer], dict[str, Any]]:
    """Leaves out peers that do not compute the same training step; returns the others and what was compared."""
    checked: dict[str, Any] = {}
    wrong: set[str] = set()
    for workload in steps:
        preset = workload.spec["preset"]
        parameters, flops = ours.facts(preset, workload.spec["batch"])
        checked[preset] = {"ganymede": {"parameters": parameters, "flops": flops}}
        expected = EXPECTED[preset].losses
        for peer in peers:
            try:
                model = peer.ask({"op": "model", "workload": workload.spec, "steps": len(expected)})
            except PeerFailed as error:
                skip(skipped, peer.name, f"it cannot train {preset}: {error}")
                wrong.add(peer.name)
                continue
            checked[preset][peer.name] = model
            if trouble := differences(model, parameters, flops, expected):
                skip(skipped, peer.name, f"its {preset} is not ours: {trouble}")
                wrong.add(peer.name)
            else:
                say(f"checked {preset} of {peer.name}: parameters, losses{', operations' if model['flops'] else ''}")
    for peer in peers:
        if peer.name in wrong:
            peer.close()
    return [peer for peer in peers if peer.name not in wrong], checked


def differences(model: dict[str, Any], parameters: dict[str, int], flops: float, expected: tuple[tuple[float, float], ...]) -> str:
    """In what a peer's step differs from ours; empty where it does not."""
    if model["parameters"] != parameters:
        return f"expected parameters {parameters}, got {model['parameters']}"
    # `plan` rounds each product to thousands of operations, and the weight gradient of a layer with one output is a sum there, not a product.
    if model["flops"] is not None and abs(model["flops"] - flops) > 1e-3 * flops:
        return f"expected {flops:.0f} floating-point operations of products in a step, got {model['flops']}"
    for step, (losses, wanted) in enumerate(zip(model["losses"], expected, strict=True)):
        for network, loss, want in zip("DG", losses, wanted, strict=True):
            if not abs(loss - want) <= LOSS_TOLERANCE * abs(want):
                return f"expected {want} as {network}'s loss in step {step}, got {loss}"
    return ""


def compare(
    workload: Workload, ours: Ours, peers: list[Peer], arguments: argparse.Namespace, modes: list[str], skipped: list[Skipped]
) -> tuple[Series | None, dict[str, Series]]:
    """Times everyone in turn, each once a round.

    The order turns by one from round to round, so that a drift of the machine's speed evens out.
    """
    ready: list[Mode] = []
    for peer in peers:
        own = modes if workload.group == "step" and len(peer.info["modes"]) > 1 else ["default"]
        for mode in (Mode(peer, name) for name in own):
            if not peer.alive:
                continue
            try:
                ready.append(mode)
                say(f"{workload.name}: {mode.name} ready in {mode.prepare(workload):.1f} s")
            except PeerFailed as error:
                ready.remove(mode)
                skip(skipped, f"{workload.name} of {mode.name}", str(error))
    series: dict[str, Series] = {}
    contenders: list[Ours | Mode] = [ours, *ready]
    for turn in range(arguments.pairs):
        if not contenders:
            break
        line = []
        for contender in contenders[turn % len(contenders) :] + contenders[: turn % len(contenders)]:
            try:
                rates = contender.time(workload, arguments.seconds)
            except PeerFailed as error:
                skip(skipped, f"{workload.name} of {contender.name}", str(error))
                contenders.remove(contender)
                series.pop(contender.name, None)
                continue
            series.setdefault(contender.name, Series()).rounds.append(rates)
            line.append(f"{contender.name} {number(max(max(r) for r in rates.values()))}")
        say(f"{workload.name}, pair {turn + 1} of {arguments.pairs}: {', '.join(sorted(line))} {workload.unit}")
    own_series = series.pop(ours.name, None)
    return own_series, series


def run(arguments: argparse.Namespace) -> int:
    """Compares, and writes what was found after every workload."""
    modes = chosen("--modes", arguments.modes, ("eager", "channels_last", "compile", "compile_channels_last"))
    workloads = [w for w in WORKLOADS if arguments.only in (None, w.group) and arguments.filter in w.name]
    if not workloads:
        raise InputError(f"--filter: no workload contains {arguments.filter!r}; there are {', '.join(w.name for w in WORKLOADS)}")
    chosen("--peers", arguments.peers, PEERS)
    threads = None
    if arguments.cores:
        pinned = cores(arguments.cores)
        pin(pinned)
        threads = len(pinned)
    try:
        arguments.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out: cannot make the folder {arguments.out}: {error.strerror}") from error
    arguments.out = arguments.out.resolve()

    ours = Ours([arguments.ours], arguments.patience)
    skipped: list[Skipped] = []
    peers = start_peers(arguments, threads, skipped)
    try:
        peers, checked = check_models(ours, peers, [w for w in workloads if w.group == "step"], skipped)
        mismatch = any("is not ours" in s.why for s in skipped)
        measured = []
        for workload in workloads:
            measured.append((workload, *compare(workload, ours, [p for p in peers if p.alive], arguments, modes, skipped)))
            report = {
                "schema": 1,
                "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                "machine": {
                    "system": platform.platform(),
                    "cores": arguments.cores or "all",
                    "load": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
                },
                "settings": {"pairs": arguments.pairs, "seconds": arguments.seconds},
                "ganymede": {"adapter": ours.adapter},
                "peers": {peer.name: peer.info for peer in peers},
                "checked": checked,
                "workloads": [as_json(*one) for one in measured],
                "skipped": [vars(s) for s in skipped],
            }
            (arguments.out / "peers.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
            (arguments.out / "peers.md").write_text(text_of(measured, peers, arguments, skipped), encoding="utf-8")
    finally:
        for peer in peers:
            peer.close()
    print(text_of(measured, peers, arguments, skipped), end="")
    say(f"written to {arguments.out / 'peers.json'} and {arguments.out / 'peers.md'}")
    return 1 if mismatch else 0


def text_of(
    measured: list[tuple[Workload, Series | None, dict[str, Series]]],
    peers: list[Peer],
    arguments: argparse.Namespace,
    skipped: list[Skipped],
) -> str:
    """The report for people."""
    who = "; ".join(f"{peer.info['peer']} on {peer.info['device']}" for peer in peers) or "no peers"
    head = f"{arguments.pairs} pairs of {arguments.seconds:g} s, cores {arguments.cores or 'all'}; {who}. Ratios are ours by theirs.\n\n"
    notes = "".join(f"\nNot measured: {s.what}: {s.why}\n" for s in skipped)
    return head + markdown(measured) + notes


def main() -> int:
    """Exit status: 0, 1 if a peer computes something else, 2 for wrong flags, 3 if something is missing."""
    try:
        return run(parse())
    except (InputError, EnvironmentTrouble) as error:
        print(f"error: {error}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        print("interrupted; what was measured is in the output folder", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
