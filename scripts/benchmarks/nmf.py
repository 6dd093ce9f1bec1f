"""Our NMF beside librosa's (scikit-learn's multiplicative updates): same spectrogram, components, iterations, float32.

Both start at random and stop after the same number of iterations; the Kullback-Leibler divergence they reach shows that
they did the same work. `literal` is librosa's call with its default start (NNDSVDA), which is part of its time.
`matrix products` is the share of our time that the four products of each iteration take alone, on one thread;
scikit-learn takes the same four from the same BLAS, so they bound the ratio that multiplicative updates can reach.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import click
import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

from gbsep.separation import nmf

from .timing import seconds, side_by_side


def divergence(magnitude: np.ndarray, model: np.ndarray) -> float:
    """Kullback-Leibler divergence of `model` from `magnitude`."""
    observed, model = magnitude.astype(np.float64), model.astype(np.float64) + 1e-12
    return float(np.sum(observed * np.log((observed + 1e-12) / model) - observed + model))


def products_only(magnitude: np.ndarray, n_components: int, n_iterations: int) -> Callable[[], None]:
    """The matrix products of our iterations and nothing else."""
    rng = np.random.default_rng(0)
    activations, spectra = nmf.random_components(magnitude.shape, n_components, rng)
    weights = np.ascontiguousarray(spectra.T)

    def run() -> None:
        with threadpool_limits(1, "blas"):
            for _ in range(n_iterations):
                for start in range(0, len(magnitude), nmf.BLOCK_WINDOWS):
                    active = activations[start : start + nmf.BLOCK_WINDOWS]
                    model = active @ spectra
                    model @ weights
                    active.T @ (active @ spectra)

    return run


@click.command(help=__doc__)
@click.option("--components", "component_counts", type=int, multiple=True, default=(8, 16, 32, 64), show_default=True)
@click.option("--iterations", default=30, show_default=True)
@click.option("--seconds", "duration_s", default=40.0, show_default=True, help="Length of the music.")
@click.option("--rounds", default=3, show_default=True)
def command(component_counts: tuple[int, ...], iterations: int, duration_s: float, rounds: int) -> None:
    import librosa

    warnings.filterwarnings("ignore", message="Maximum number of iterations")
    threads = max(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")
    magnitude = np.abs(nmf.stft(music(duration_s), 2048))
    magnitude /= magnitude.mean()
    click.echo(f"{magnitude.shape[0]} windows x {magnitude.shape[1]} bins, {iterations} iterations, {threads} threads")
    for count in component_counts:
        reached: dict[str, np.ndarray] = {}

        def ours(count: int = count, reached: dict[str, np.ndarray] = reached) -> None:
            activations, spectra = nmf.random_components(magnitude.shape, count, np.random.default_rng(0))
            with threadpool_limits(1, "blas"):  # as in nmf.run
                nmf.factorise(magnitude, activations, spectra, iterations)
            reached["ours"] = activations @ spectra

        def theirs(start: str | None, count: int = count, reached: dict[str, np.ndarray] = reached) -> None:
            components, activations = librosa.decompose.decompose(
                magnitude.T, n_components=count, solver="mu", beta_loss="kullback-leibler", tol=0,
                max_iter=iterations, init=start, random_state=0,
            )  # fmt: skip
            reached["theirs"] = (components @ activations).T

        theirs("random")
        own_s, librosa_s, ratio = side_by_side(ours, lambda: theirs("random"), rounds)
        own, other = (divergence(magnitude, reached[name]) for name in ("ours", "theirs"))
        literal = seconds(lambda: theirs(None)) / own_s
        _, _, floor = side_by_side(ours, products_only(magnitude, count, iterations), rounds)
        click.echo(
            f"{count:4} components: ours {own_s:.2f} s, librosa {librosa_s:.2f} s, {ratio:.2f}x (aim 5x), literal "
            f"{literal:.2f}x; divergence {own:.0f} and {other:.0f}; matrix products {100 * floor:.0f} % of our time"
        )


def music(duration_s: float, sample_rate: int = 44_100) -> np.ndarray:
    """Plucked notes, four to the second, each a decaying harmonic series with a little noise."""
    rng = np.random.default_rng(0)
    signal = 1e-4 * rng.standard_normal(round(duration_s * sample_rate))
    time = np.arange(sample_rate) / sample_rate
    for onset in range(0, len(signal) - sample_rate, sample_rate // 4):
        hz = nmf.midi_to_hz(rng.integers(28, 76))
        partials = np.arange(1, 21)
        waves = (
            np.sin(2 * np.pi * hz * np.outer(partials, time)) * np.exp(-np.outer(partials, time)) / partials[:, None]
        )
        signal[onset : onset + sample_rate] += 0.1 * waves.sum(axis=0)
    return signal.astype(np.float32)
