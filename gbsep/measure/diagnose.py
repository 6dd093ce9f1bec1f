"""Diagnosis: faults that can be found in stems without knowing the true ones.

Conventions: the stems are those before their effects, and the mixture is what they were separated from. evidence.py
measures them. Each row of KINDS turns the measurements into a figure for every span of two seconds, taken over as many
spans around it as the row says. Spans whose figure reaches the row's threshold join into a Finding. A share in dB is 10
log10 of a part of a power, so it does not depend on levels.

The registers follow from the open strings: at A4 = 440 Hz (ISO 16) a bass guitar sounds from 41 Hz (E1) and a guitar
from 82 Hz (E2), or 62 Hz (B1) when tuned down.

The thresholds were set on two of four songs with known stems, each bass with each guitar, as played, with guitars tuned
down and with the bass moved up, and on generated music, so that few true stems reach them. `scripts/calibrate.py`
prints how many faults of known strength they find in other songs, and how much they find where nothing is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..audio import Reader
from .evidence import SILENT_DBFS, SPAN_WINDOWS, Evidence, measure, moving_sum
from .swap import MARGIN_OCTAVES, octaves_above, register_of

HIGH_REGISTER_HZ = 98.0
"""G2, the open G string of a bass guitar: from here on a line is high."""

LEAST_WINDOWS = 10
"""Windows of notes that a comparison needs: one second."""

CHANCE_SHARE = 0.22
"""Part of a band's power that may be coherent with another stem by chance: twice that of nine in ten true stems."""

CHANCE_RATIO = 2.0
"""Factor by which a variance must exceed that of chance correlation."""

MIXTURE_DEEP_DB = -25.0
"""A mixture with less than this share below BELOW_GUITAR_HZ has no low end to speak of."""

ABSENT_DB = -24.0
"""A stem with less than this share of its power where an instrument must sound does not hold that instrument alone."""

FAINT_DB = -40.0
"""Power of an instrument in a band below this, relative to the mixture, is not traced in other stems."""

AUDIBLE_DB = -25.0
"""A stem this far below the mixture counts as silent."""


@dataclass(frozen=True)
class Finding:
    """A fault of a stem.

    kind: a name in KINDS; start_s and end_s: where it is; severity: "warning" or "error"; message: a sentence; value:
    the figure behind it; partner: the other stem that the sentence names, if any.
    """

    kind: str
    stem: str
    start_s: float
    end_s: float
    severity: str
    message: str
    value: float
    partner: str | None = None

    def as_json(self) -> dict[str, Any]:
        """JSON-able, for render.json."""
        return asdict(self)


def clock(seconds: float) -> str:
    """Minutes and seconds, to a tenth: `1:02.5` for 62.5 s.

    >>> clock(59.97)
    '1:00.0'
    """
    tenths = round(seconds * 10)
    return f"{tenths // 600}:{tenths % 600 / 10:04.1f}"


# The figures: one for every span, NaN where it is undefined, or a single one where `spans` is 0.
# `other` is the partner of the bass, the bass for its partner, or empty.


def _swapping(about: Evidence, stem: str, other: str, spans: int) -> np.ndarray:
    """Octaves by which the bass sounds above its partner."""
    sums = [np.stack([moving_sum(row, spans) for row in about.rows[name, "register"].T], 1) for name in (stem, other)]
    sounding = _audible(about, stem, spans) & _audible(about, other, spans)
    return np.array(
        [
            octaves_above(register_of(bass), register_of(partner)) if audible else np.nan
            for bass, partner, audible in zip(*sums, sounding, strict=True)
        ]
    )


def _phantom(about: Evidence, stem: str, other: str, spans: int) -> np.ndarray:
    """Percentage of a stem that is its partner's sound, where its own instrument does not sound.

    NaN where the two share most of their sound even where the instrument does sound, as after a crossover.
    """
    power = about.over(spans, stem, "range")
    own = _db(about.over(spans, stem, "deep" if stem == about.bass else "high"), power)
    share = 100 * about.over(spans, stem, "shared") / power
    sounding = _audible(about, stem, spans)
    usual = share[sounding & (own >= ABSENT_DB)]
    if usual.size and np.median(usual) > 50:
        return np.full_like(share, np.nan)
    return _only(sounding & (own < ABSENT_DB), share)


def _level_lost(about: Evidence, stem: str, other: str, spans: int) -> np.ndarray:
    """Gain in dB with which a stem and its partner fit the mixture best, plus the gain that was already restored."""
    power, product = about.over(spans, stem, "range"), about.over(spans, stem, "in_mixture")
    if other:
        other_power, other_product = about.over(spans, other, "range"), about.over(spans, other, "in_mixture")
        both = about.over(spans, "pair", "product")
        determinant = power * other_power - both**2
        apart = determinant > 1e-3 * power * other_power
        product = np.where(apart, (other_power * product - both * other_product), product)
        power = np.where(apart, determinant, power)
    gain = _only(_audible(about, stem, spans) & (product > 0), product / power)
    result: np.ndarray = 20 * np.log10(gain) + about.restored_db.get(stem, 0.0)
    return result


def _swelling(about: Evidence, stem: str, other: str, spans: int) -> np.ndarray:
    """Variation of the gain with which the bass is found in the mixture, in percent, beyond chance."""
    product, power = (moving_sum(about.windows[name], 3) for name in ("product", "power"))
    gain = product / power
    windows = spans * SPAN_WINDOWS

    def mean(values: np.ndarray) -> np.ndarray:
        known = np.where(power > 0, power * values, 0.0)
        result: np.ndarray = moving_sum(known, windows) / moving_sum(power, windows)
        return result

    real = mean(gain.real**2) - mean(gain.real) ** 2
    chance = mean(gain.imag**2) - mean(gain.imag) ** 2
    depth = 100 * np.sqrt(np.maximum(real - chance, 0)) / mean(gain.real)
    return _only(_audible(about, stem, spans), _spans(about, _only(real > CHANCE_RATIO * chance, depth)))


def _thinning(about: Evidence, stem: str, other: str, spans: int) -> np.ndarray:
    """Loss of the bass's high notes against the mixture, in dB, compared with that of its low notes."""
    product, power, pitch_hz = (about.windows[name] for name in ("product", "power", "pitch_hz"))
    high, low = pitch_hz >= HIGH_REGISTER_HZ, pitch_hz < HIGH_REGISTER_HZ
    windows = spans * SPAN_WINDOWS
    there = moving_sum(product * high, windows) / moving_sum(power * high, windows)
    as_a_rule = (product * low).sum() / (power * low).sum()
    enough = (moving_sum(high, windows) >= LEAST_WINDOWS) & (low.sum() >= LEAST_WINDOWS) & _trusted(there)
    lacking_db = _only(enough & _trusted(as_a_rule), 20 * np.log10(there.real / as_a_rule.real))
    return _only(_audible(about, stem, spans), _spans(about, lacking_db))


def _trusted(gain: np.ndarray) -> np.ndarray:
    """Whether chance correlation, which is what the imaginary part of a projection shows, is small."""
    result: np.ndarray = (gain.real > 0) & (np.abs(gain.imag) < 0.3 * gain.real)
    return result


def _bleeding(about: Evidence, stem: str, other: str, spans: int) -> np.ndarray:
    """Level in dB of the other instrument in the stem, in the band where the stem's own has next to nothing."""
    band = "high" if stem == about.bass else "deep"
    shared = about.over(spans, stem, f"shared_{band}")
    own, others = about.over(spans, stem, band), about.over(spans, other, band)
    there = _sounds(about, spans) & (_db(others, about.over(spans, "mixture", "range")) > FAINT_DB)
    return _only(there & (shared > CHANCE_SHARE * own), _db(shared, others))


def _low_end_missing(about: Evidence, stem: str, other: str, spans: int) -> np.ndarray:
    """Power of the mixture's low end relative to that of the stem, in dB."""
    return _only(_has_low_end(about, spans), _db(_deep(about, "mixture", spans), _deep(about, stem, spans)))


def _low_end_left(about: Evidence, stem: str, other: str, spans: int) -> np.ndarray:
    """Power of the stem's low end relative to that of the mixture, in dB."""
    return _only(_has_low_end(about, spans), _db(_deep(about, stem, spans), _deep(about, "mixture", spans)))


def _residual(about: Evidence, stem: str, other: str, spans: int) -> np.ndarray:
    """Power of the residual relative to that of the mixture, in dB."""
    level_db = _db(about.over(spans, "residual", "energy"), about.over(spans, "mixture", "energy"))
    return _only(_sounds(about, spans), level_db)


def _clipping(about: Evidence, stem: str, other: str, spans: int) -> np.ndarray:
    return _only(_level_dbfs(about, stem) > SILENT_DBFS, np.array([about.samples[stem].clipped], float))


def _dc_offset(about: Evidence, stem: str, other: str, spans: int) -> np.ndarray:
    """Largest mean of a channel in dBFS; full scale is the signal's peak where that is above 1."""
    samples = about.samples[stem]
    result: np.ndarray = 20 * np.log10(
        np.abs(samples.sums).max(keepdims=True) / samples.frames / max(1.0, samples.peak)
    )
    return result


def _silent(about: Evidence, stem: str, other: str, spans: int) -> np.ndarray:
    """Level below full scale in dB, where the mixture is not silent."""
    return _only(_sounds(about, len(about.rows["mixture", "energy"]))[:1], -_level_dbfs(about, stem))


def _level_dbfs(about: Evidence, stem: str) -> np.ndarray:
    samples = about.samples[stem]
    return _db(np.array([samples.energy]), samples.frames)


# The table


@dataclass(frozen=True)
class Kind:
    """A row of KINDS.

    `sentence` has the places {stem}, {partner} and {value}, the figure in `unit`. `threshold` is the least figure that
    is a "warning", `serious` the least that is an "error". The figure is taken over `spans` spans, or over the whole
    track if 0. `about` names the stems: the bass, its partner, each of the two where there are both, any stem, none, or
    those that could not be read.
    """

    sentence: str
    unit: str
    threshold: float
    serious: float
    spans: int
    about: str
    figure: Callable[[Evidence, str, str, int], np.ndarray] | None


KINDS = {
    "swapped": Kind(
        "{stem} and {partner} are swapped: {partner} sounds {value:.1f} octaves lower",
        "octaves", MARGIN_OCTAVES, MARGIN_OCTAVES, 5, "bass of two", _swapping,
    ),
    "phantom": Kind(
        "{stem} is heard where the mixture has nothing of it: {value:.0f} % of what sounds there is {partner}",
        "%", 75.0, 95.0, 1, "each of two", _phantom,
    ),
    "level_lost": Kind(
        "{stem} came out {value:.1f} dB quieter than it is in the mixture", "dB", 1.5, 6.0, 5, "each", _level_lost
    ),
    "swelling": Kind(
        "the level of {stem} swells up and down by {value:.0f} %, which the mixture does not",
        "%", 13.0, 35.0, 5, "bass", _swelling,
    ),
    "bleeding": Kind(
        "{partner} bleeds into {stem}, at {value:.0f} dB of its own level",
        "dB", -20.0, -8.0, 3, "each of two", _bleeding,
    ),
    "thin_high": Kind(
        "{stem} thins out in its high register, where it lacks {value:.1f} dB against its low notes",
        "dB", 2.5, 8.0, 1, "bass", _thinning,
    ),
    "low_end_missing": Kind(
        "the low end of {stem} is {value:.0f} dB below the mixture's", "dB", 5.0, 12.0, 3, "bass", _low_end_missing
    ),
    "low_end_left": Kind(
        "{stem} holds low end of the {partner}, {value:.0f} dB of the mixture's",
        "dB", -8.0, -4.0, 3, "partner", _low_end_left,
    ),
    "residual_loud": Kind(
        "what no stem holds is at {value:.0f} dB of the mixture: other instruments, or something lost",
        "dB", -15.0, -6.0, 3, "no stem", _residual,
    ),
    "clipping": Kind(
        "{stem} is clipped: {value:.0f} pairs of samples at its very peak",
        "pairs", 20.0, 1000.0, 0, "any stem", _clipping,
    ),
    "dc_offset": Kind("{stem} has a DC offset of {value:.0f} dBFS", "dBFS", -45.0, -30.0, 0, "any stem", _dc_offset),
    "silent": Kind(
        "{stem} is silent, {value:.0f} dB below full scale: right only if the song has none",
        "dB", -SILENT_DBFS, math.inf, 0, "any stem", _silent,
    ),
    "non_finite": Kind("{stem} holds NaN or infinity, first at {value:.3f} s", "s", 0.0, 0.0, 0, "unread", None),
}  # fmt: skip
"""Every kind of finding by its name."""


def diagnose(
    mixture: Reader, stems: Mapping[str, Reader], restored_db: Mapping[str, float] | None = None
) -> tuple[Finding, ...]:
    """The faults of stems that were separated from `mixture`, in the order of KINDS, then of time.

    All signals have one shape and sample rate, and are read once, in blocks. `restored_db` is the gain by which each
    stem's level was already raised: the loss is reported although it is made up for. Most kinds are about `bass` and
    its partner, `guitar` or else `other`; other stems are checked for clipping, offset and silence.
    """
    about = measure(mixture, stems, restored_db)
    return tuple(finding for name, stem, values in figures(about) for finding in _findings(name, stem, about, values))


def figures(about: Evidence) -> Iterator[tuple[str, str, np.ndarray]]:
    """(kind, stem, figures): one figure for every span, NaN where undefined, or a single one for the whole track."""
    two = [name for name in (about.bass, about.partner) if name is not None]
    stems = {
        "bass": [about.bass] if about.bass else [],
        "partner": two[1:],
        "bass of two": two[:1] if len(two) == 2 else [],
        "each of two": two if len(two) == 2 else [],
        "each": two,
        "any stem": list(about.stems),
        "no stem": ["residual"] if len(two) == 2 else [],
    }
    for name, kind in KINDS.items():
        for stem in stems.get(kind.about, []):
            assert kind.figure is not None
            with np.errstate(divide="ignore", invalid="ignore"):
                yield name, stem, kind.figure(about, stem, about.other(stem), kind.spans)


def _findings(name: str, stem: str, about: Evidence, values: np.ndarray) -> Iterator[Finding]:
    """Findings from the spans whose figure reaches the threshold; each has the worst figure of its spans.

    Spans are joined across gaps no longer than the spans that a figure is taken over.
    """
    kind = KINDS[name]
    reached = np.flatnonzero(values >= kind.threshold)
    for run in np.split(reached, np.flatnonzero(np.diff(reached) > kind.spans + 1) + 1) if reached.size else ():
        first, end = (int(run[0]), int(run[-1]) + 1) if kind.spans else (0, math.inf)
        end_s = min(end * about.span_s, about.seconds)
        yield finding(name, stem, about.other(stem), first * about.span_s, end_s, float(values[run].max()))


def finding(name: str, stem: str, partner: str, start_s: float, end_s: float, value: float) -> Finding:
    """A finding of the kind `name`, with its message; `partner` may be empty."""
    kind = KINDS[name]
    message = kind.sentence.format(stem=stem, partner=partner, value=value)
    severity = "error" if value >= kind.serious else "warning"
    named = partner if "{partner}" in kind.sentence else None
    return Finding(name, stem, round(start_s, 3), round(end_s, 3), severity, message, round(value, 3), named)


def _spans(about: Evidence, values: np.ndarray) -> np.ndarray:
    """From values for every window, those in the middle of each span."""
    spans = len(about.rows["mixture", "energy"])
    return values[np.minimum(np.arange(spans) * SPAN_WINDOWS + SPAN_WINDOWS // 2, len(values) - 1)]


def _only(condition: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.where(condition, values, np.nan)


def _db(power: np.ndarray, reference: Any) -> np.ndarray:
    """Ratio of powers in dB, from -200 to 200; NaN where both are 0."""
    result: np.ndarray = np.clip(10 * np.log10(power / reference), -200.0, 200.0)
    return result


def _deep(about: Evidence, stem: str, spans: int) -> np.ndarray:
    return about.over(spans, stem, "deep")


def _sounds(about: Evidence, spans: int) -> np.ndarray:
    """Whether the mixture sounds around each span."""
    least = 10 ** (SILENT_DBFS / 10)
    return about.over(spans, "mixture", "energy") > least * about.over(spans, "mixture", "frames")


def _has_low_end(about: Evidence, spans: int) -> np.ndarray:
    share_db = _db(_deep(about, "mixture", spans), about.over(spans, "mixture", "range"))
    return _sounds(about, spans) & (share_db > MIXTURE_DEEP_DB)


def _audible(about: Evidence, stem: str, spans: int) -> np.ndarray:
    level_db = _db(about.over(spans, stem, "range"), about.over(spans, "mixture", "range"))
    return _sounds(about, spans) & (level_db > AUDIBLE_DB)
