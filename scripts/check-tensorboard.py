#!/usr/bin/env python3
"""Reads a run's event files with TensorBoard's own package, and compares what it finds with the run's stats.jsonl and pictures.

    python3 -m venv /tmp/tensorboard && /tmp/tensorboard/bin/pip install tensorboard
    /tmp/tensorboard/bin/python scripts/check-tensorboard.py runs/00000-digits-dcgan-28-small-b32

Exit code 0 if every statistic of every tick and every picture is there with the right step and value.
"""

import json
import pathlib
import struct
import sys

import tensorboard
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

TAGS = {
    "loss_d": "loss/D",
    "loss_d_real": "loss/D_real",
    "loss_d_fake": "loss/D_fake",
    "loss_g": "loss/G",
    "d_x": "score/D_x",
    "d_g_z1": "score/D_G_z_before",
    "d_g_z2": "score/D_G_z_after",
    "grad_norm_d": "grad_norm/D",
    "grad_norm_g": "grad_norm/G",
    "seconds_per_kimg": "time/seconds_per_kimg",
    "memory_bytes": "device/memory_bytes",
}


def single(value):
    """value as the 32-bit float that an event holds."""
    return struct.unpack("f", struct.pack("f", value))[0]


def main():
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} RUN")
    run = pathlib.Path(sys.argv[1])
    everything = {"scalars": 0, "images": 0, "tensors": 0}
    events = EventAccumulator(str(run), size_guidance=everything)
    events.Reload()
    tags = events.Tags()

    ticks = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    wrong = 0
    for field, tag in TAGS.items():
        if not any(field in tick for tick in ticks):
            continue
        want = {tick["images_seen"]: single(tick[field]) for tick in ticks}
        have = {e.step: e.value for e in events.Scalars(tag)} if tag in tags["scalars"] else {}
        # A run that was stopped in the middle of a tick and went on has a value there that stats.jsonl has not.
        missing = [step for step, value in want.items() if have.get(step) != value]
        wrong += len(missing)
        print(f"{tag:24} {len(have):5} values, {len(missing)} wrong or missing")
    pictures = {int(p.stem.split("-")[1]): p for p in run.glob("fakes-*.png")}
    pictures |= {0: p for p in run.glob("fakes_init.png")}
    have = {e.step: e.encoded_image_string for e in events.Images("fakes")} if "fakes" in tags["images"] else {}
    missing = [step for step, path in pictures.items() if have.get(step) != path.read_bytes()]
    wrong += len(missing)
    print(f"{'fakes':24} {len(have):5} pictures, {len(missing)} wrong or missing")
    if not ticks or not pictures:
        sys.exit(f"{run} has no statistics or no pictures to compare with")
    print(f"TensorBoard {tensorboard.__version__}: {'all is there' if wrong == 0 else f'{wrong} differences'}")
    sys.exit(wrong != 0)


if __name__ == "__main__":
    main()
