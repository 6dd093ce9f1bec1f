"""The multichannel Wiener filter that shares a mixture out among sources of roughly known magnitudes.

Duong, Vincent, Gribonval, "Under-determined reverberant audio source separation using a full-rank spatial covariance
model", IEEE TASLP 18(7), 2010, in the form of Uhlich et al., ICASSP 2017.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

WIENER_FRAMES = 300
"""Spectrogram frames that the filter looks at together, 7 s at the published hop: part of the published method."""

EPS = 1e-10
"""Power below which a bin counts as silent; its root is the noise the filter assumes in each channel."""


def wiener(magnitudes: torch.Tensor, mixture: torch.Tensor, niter: int, residual: bool = False) -> torch.Tensor:
    """Share out a stereo mixture among sources of roughly known magnitudes.

    magnitudes: (J, C, F, T); mixture: complex (C, F, T). Returns complex64 (J, C, F, T), computed in double precision,
    for channels that are alike make the covariances nearly singular. With `niter` 0 the magnitudes get the mixture's
    phase. Otherwise each pass estimates, per source and bin, its power over time and one spatial covariance, and
    filters the mixture accordingly, so that the sources sum to the mixture, less EPS. `residual` adds the rest of the
    mixture as one more source while filtering; it is not returned.
    """
    import torch

    scale = max(1.0, mixture.abs().max().item() / 10.0)
    estimates = torch.empty(magnitudes.shape, dtype=torch.complex64)
    for first in range(0, mixture.shape[1], 32):  # bins are independent; few at a time stay in the processor's cache
        bins = slice(first, first + 32)
        x = mixture[:, bins].to(torch.complex128)
        y = magnitudes[:, :, bins] * torch.where(x == 0, 1.0, x / x.abs())
        if residual:
            y = torch.cat([y, (x - y.sum(0))[None]])
        if niter:
            y = _expectation_maximisation(y / scale, x / scale, niter) * scale
        estimates[:, :, bins] = y[: len(magnitudes)]
    return estimates


def _expectation_maximisation(y: torch.Tensor, x: torch.Tensor, niter: int) -> torch.Tensor:
    """Refine source spectra y (J, 2, F, T) of the mixture x (2, F, T)."""
    for _ in range(niter):
        left, right = y[:, 0], y[:, 1]
        power = (left.abs().square() + right.abs().square()) / 2
        weight = EPS + power.sum(-1, keepdim=True)
        # The spatial covariance of each source and bin, (J, F, 1): Hermitian, so two real numbers and a complex one.
        r00 = left.abs().square().sum(-1, keepdim=True) / weight
        r11 = right.abs().square().sum(-1, keepdim=True) / weight
        r01 = (left * right.conj()).sum(-1, keepdim=True) / weight
        # The mixture's covariance, (F, T), and its inverse applied to the mixture.
        c00 = EPS**0.5 + (power * r00).sum(0)
        c11 = EPS**0.5 + (power * r11).sum(0)
        c01 = (power * r01).sum(0)
        determinant = c00 * c11 - c01.abs().square()
        u0 = (c11 * x[0] - c01 * x[1]) / determinant
        u1 = (c00 * x[1] - c01.conj() * x[0]) / determinant
        y[:, 0] = power * (r00 * u0 + r01 * u1)
        y[:, 1] = power * (r01.conj() * u0 + r11 * u1)
    return y
