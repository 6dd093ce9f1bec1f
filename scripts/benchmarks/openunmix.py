"""The Open-Unmix backend beside the published package, with the same random weights: error, time and memory.

Needs the package, which runs here without torchaudio: `pip install --no-deps openunmix`. It holds the whole track and
is timed on `--seconds` of it; the peak memory of the backend is that of whole processes with tiny networks.
"""

from __future__ import annotations

import os
import subprocess
import sys
import types

import click
import numpy as np

from .timing import side_by_side

TARGETS = ("vocals", "drums", "bass", "other")

PEAK = """
import resource, sys
import numpy as np
from benchmarks.openunmix import published
from gbsep.audio import Reader
from gbsep.separation.openunmix.backend import Transform, separate
from gbsep.separation.openunmix.network import build

frames = round(float(sys.argv[1]) * 60 * 44100)
second = np.random.default_rng(0).normal(0, 0.1, (2, 44100)).astype(np.float32)

def blocks(block_frames):
    for first in range(0, frames, 44100):
        yield second[:, : frames - first]

networks = {target: build(network.state_dict(), 2049) for target, network in published(8).items()}
for block in separate(Reader(44100, 2, frames, blocks), networks, Transform(), ("bass", "other")):
    pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def published(hidden_size: int) -> dict:
    """Untrained networks of the published package, by target."""
    import torch

    sys.modules.setdefault("torchaudio", types.ModuleType("torchaudio"))  # imported by the package, for files only
    try:
        from openunmix.model import OpenUnmix
    except ImportError:
        raise click.UsageError("this benchmark needs openunmix: pip install --no-deps openunmix") from None
    torch.manual_seed(0)
    return {target: OpenUnmix(2049, 2, hidden_size, max_bin=1487).eval() for target in TARGETS}


def peak_mb(minutes: float) -> float:
    words = [sys.executable, "-c", PEAK, str(minutes)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(words, check=True, capture_output=True, text=True, env=environment)
    return int(done.stdout) / (2**20 if sys.platform == "darwin" else 2**10)


@click.command(help=__doc__)
@click.option("--hidden-size", default=512, show_default=True, help="512 as umx and umxhq, 1024 as umxl.")
@click.option("--seconds", default=30.0, show_default=True)
@click.option("--rounds", default=5, show_default=True)
@click.option("--long", "long_minutes", default=60.0, show_default=True, help="Minutes of the long recording.")
def command(hidden_size: int, seconds: float, rounds: int, long_minutes: float) -> None:
    # First, while this process is small: on Linux a child's peak is never told below its parent's.
    short, long = peak_mb(4), peak_mb(long_minutes)
    click.echo(
        f"peak memory: 4 minutes {short:.0f} MB, {long_minutes:g} minutes {long:.0f} MB, {long - short:+.0f} MB "
        "(limit +150)"
    )

    import torch

    from gbsep.audio import Audio, join
    from gbsep.separation.openunmix.backend import Transform, separate
    from gbsep.separation.openunmix.network import build

    theirs = published(hidden_size)
    from openunmix.model import Separator

    separator = Separator(theirs, niter=1)
    separator.freeze()
    networks = {target: build(network.state_dict(), 2049) for target, network in theirs.items()}
    samples = np.random.default_rng(0).normal(0, 0.1, (2, round(seconds * 44100))).astype(np.float32)

    def ours() -> np.ndarray:
        blocks = list(separate(Audio(samples, 44100).reader(), networks, Transform(), TARGETS))
        return np.stack([join(block[target] for block in blocks) for target in TARGETS])

    def published_result() -> np.ndarray:
        return separator(torch.from_numpy(samples)[None])[0].numpy()

    expected = published_result()
    error = np.linalg.norm(ours() - expected) / np.linalg.norm(expected)
    mine, other, ratio = side_by_side(ours, published_result, rounds)
    click.echo(f"relative error {error:.1e} (limit 1e-5)")
    click.echo(f"{seconds:g} s of stereo: gbsep {mine:.2f} s, openunmix {other:.2f} s, {ratio:.2f}x as fast")
