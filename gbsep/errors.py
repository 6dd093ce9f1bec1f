"""What can go wrong, as one tree. Every message names the value, what is allowed, and the next step.

    GbsepError
      AudioFileError(path, reason)          one file cannot be read or written
        NotFinite                           it holds NaN or infinity
      AudioError(ValueError)                samples that are no audio: shape, NaN, too short
      ParameterError(ValueError)            a parameter outside its range
      PresetError(path, json_path, reason)  a preset that says something gbsep does not understand
      OutputError(path, reason)             an output folder or file that may not be touched
        StemMissing                         a folder of stems has not the one that is asked of it
      SmallFileError(path, reason)          a small file of JSON, YAML or text that cannot be read as that
      FolderUnknown                         the user has no home for one of gbsep's folders
      BackendError
        BackendNotInstalled                 an optional dependency is missing
        WeightsMissing                      model weights are nowhere to be found
        SeparationFailed                    the separation itself broke
      PluginError
        PluginNotFound
        PluginCrashed
        PluginTimeout
      WorkerDied                            the process that rendered a song ended under it

Library code raises these and nothing else on bad input; the command line is the one place that catches them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

SHOWN = 500
"""Letters of a value that a message shows."""


class GbsepError(Exception):
    """Base of every error that gbsep raises on purpose."""


class AudioFileError(GbsepError):
    """A file cannot be read or written as audio."""

    def __init__(self, path: str | Path, reason: str):
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = Path(path), reason


class NotFinite(AudioFileError):
    """A file holds NaN or infinity; `time_s` says where."""

    def __init__(self, path: str | Path, reason: str, time_s: float):
        super().__init__(path, reason)
        self.time_s = time_s


class AudioError(GbsepError, ValueError):
    """Samples that are not usable audio: wrong shape, not finite, too short."""


class ParameterError(GbsepError, ValueError):
    """A parameter has a value that is not allowed."""

    def __init__(self, name: str, value: object, allowed: str, unit: str = ""):
        super().__init__(f"{name} = {shown(value)}{' ' + unit if unit else ''} is not allowed: {allowed}")
        self.name, self.value, self.allowed, self.unit = name, value, allowed, unit


TOLD_PROBLEMS = 5


class PresetError(GbsepError):
    """A preset is not valid; `json_path` says where, such as `stems.bass.chain[0].cutoff_hz`.

    `more` are further problems of the same preset, pairs of place and reason.
    """

    def __init__(self, path: str | Path, json_path: str, reason: str, more: Iterable[tuple[str, str]] = ()):
        self.path, self.json_path, self.reason = path, json_path, reason
        self.problems = ((json_path, reason), *more)
        """All that is wrong, pairs of place and reason. The message has the first TOLD_PROBLEMS of them."""
        lines = [": ".join(part for part in problem if part) for problem in self.problems[:TOLD_PROBLEMS]]
        if untold := len(self.problems) - len(lines):
            lines.append(f"{untold} more")
        told = "; and ".join(lines)
        super().__init__(printable(": ".join(part for part in (str(path), told) if part)))


class OutputError(GbsepError):
    """An output place cannot be written, or holds something that must not be overwritten."""

    def __init__(self, path: str | Path, reason: str):
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = Path(path), reason


class StemMissing(OutputError):
    """A folder of stems has not the one that is asked of it."""


class SmallFileError(GbsepError):
    """A small file of JSON, YAML or text cannot be read as that.

    `missing` where there is none, `is_syntax` where it is of another language.
    """

    def __init__(self, path: str | Path, reason: str, missing: bool = False, is_syntax: bool = False):
        super().__init__(f"{path}: {reason}")
        self.path, self.reason, self.missing, self.is_syntax = path, reason, missing, is_syntax


class FolderUnknown(GbsepError):
    """A folder of the user's own lies in a home that is not known."""


class BackendError(GbsepError):
    """A separation backend cannot do its work."""


class BackendNotInstalled(BackendError):
    """The backend needs packages that are not installed."""

    def __init__(self, backend: str, reason: str):
        super().__init__(f"backend {backend!r} cannot run here: {reason}")
        self.backend = backend


class WeightsMissing(BackendError):
    """Model weights were found nowhere; the message says where gbsep looked and how to bring them."""

    def __init__(self, model: str, looked_in: Iterable[str | Path], next_step: str):
        self.model, self.looked_in = model, [str(place) for place in looked_in]
        super().__init__(f"no weights for model {model!r}; looked in {', '.join(self.looked_in)}. {next_step}")


class SeparationFailed(BackendError):
    """A backend broke while separating, or gave stems that are not finite."""


class PluginError(GbsepError):
    """An external plug-in cannot do its work."""


class PluginNotFound(PluginError):
    """No plug-in of that name was found by scanning."""


class PluginNotStarted(PluginError):
    """No process can be started for a plug-in: this machine's trouble, not the plug-in's."""


class PluginCrashed(PluginError):
    """A plug-in took its worker process down."""


class PluginTimeout(PluginError):
    """A plug-in did not answer in time."""


class WorkerDied(GbsepError):
    """A worker process ended while it rendered: out of memory, or a crash in a library."""


def shown(value: object) -> str:
    """A value in a message, however long it is.

    >>> shown("x" * 1000), len(shown(10**5000)) < 100
    ("'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...xxxxxxxxxxxxxxxxxxx'", True)
    """
    try:
        text = repr(value)
    except Exception:  # a number of thousands of digits, or somebody's own class
        return f"{type(value).__name__} that cannot be shown"
    return printable(text if len(text) <= SHOWN else f"{text[:60]}...{text[-20:]}")


def expect(name: str, value: object, *types: type) -> None:
    """Raise TypeError with a sentence that names the argument when `value` is of none of the types.

    >>> expect("preset", 3, str, dict)
    Traceback (most recent call last):
    TypeError: preset must be str or dict, not int (3)
    """
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        wanted = " or ".join("None" if kind is type(None) else kind.__name__ for kind in types)
        raise TypeError(f"{name} must be {wanted}, not {type(value).__name__} ({shown(value)})")


def unexpected(error: BaseException) -> str:
    """What to say of an error that no code foresaw; one of gbsep's own speaks for itself.

    >>> unexpected(ModuleNotFoundError("No module named 'soxr'", name="soxr"))
    "the package 'soxr' is not installed, which this needs; gbsep doctor says how to get it"
    """
    if isinstance(error, GbsepError):
        return str(error)
    if isinstance(error, MemoryError):
        return "there is not enough memory; try fewer --jobs, or a machine that has more"
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("gbsep"):
        package = error.name.split(".")[0]
        return f"the package {package!r} is not installed, which this needs; gbsep doctor says how to get it"
    about = " ".join(str(error).split())[:500]
    return f"unexpected {type(error).__name__}{': ' if about else ''}{about}; please report it, with what --debug shows"


def one_line(error: BaseException) -> str:
    """What an error says, in one line of at most 200 characters; the name of its kind if it says nothing.

    >>> one_line(ValueError("two\\nlines")), one_line(KeyError())
    ('two lines', 'KeyError')
    """
    return " ".join(str(error).split())[:200] or type(error).__name__


def printable(text: str) -> str:
    r"""One line, whatever a file put into it: `printable("a\nb")` is `a\\nb`."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def exact(value: float) -> str:
    """A number as its shortest exact decimal, without an exponent: `exact(90.0)` is `"90"`.

    >>> exact(0.1), exact(1e-7), exact(5.25)
    ('0.1', '0.0000001', '5.25')
    """
    return exact_sum(value, 0.0)


def exact_sum(first: float, second: float) -> str:
    """As `exact`, of the sum of two numbers as they are written: `exact_sum(0.1, 0.2)` is `"0.3"`."""
    from decimal import Decimal  # takes as long to load as the rest of this module

    text = f"{Decimal(repr(float(first))) + Decimal(repr(float(second))):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def legible(text: object) -> str:
    r"""A path or text as every file can hold it: bytes of a name that are no UTF-8 are written out.

    >>> legible("caf\udce9.wav")
    'caf\\udce9.wav'
    """
    return str(text).encode("utf-8", "backslashreplace").decode()


def sentence(text: str) -> str:
    """`text` with a stop at its end, before which more is to follow: `sentence("why?")` is `"why?"`."""
    return text if text.endswith((".", "?")) else f"{text}."


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint for a misspelt `word`: `"; did you mean 'ratio'?"`, or the whole list when nothing is near.

    >>> nearest("cutof_hz", ["cutoff_hz", "order"])
    "; did you mean 'cutoff_hz'?"
    """
    known = sorted(known)
    return similar(word, known) or f"; known: {', '.join(known)}"


def similar(word: str, known: Iterable[str]) -> str:
    """As `nearest`, but empty when nothing is near, for messages that list what is known already."""
    close = difflib.get_close_matches(word, sorted(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
