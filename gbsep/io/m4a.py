"""AAC in an m4a file, written by PyAV (`pip install gbsep[av]`).

An AAC encoder begins 1024 frames early, and ends with a whole packet. The edit list of the file says which frames are
the sound, counted in frames: gbsep and whatever else goes by it reads back as many as were written, each at its place.
A player that does not may have up to 1023 frames of silence more at the end, or the 1024 at the beginning.

Memory: MP4 keeps a table of all packets, which is written at the end; some 60 bytes each, 10 MB an hour.

Reference: ISO/IEC 14496-12, 8.6.6 (edit list).
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ParameterError

BITS_PER_S = 128_000
"""Of each channel."""
_BITEXACT = 0x00800000
"""FFmpeg's flag of encoders that write no word of their version."""


def takes(sample_rate: int) -> bool:
    """Whether AAC has a sample rate. Raises ParameterError where PyAV is not there."""
    try:
        import av
    except ImportError:
        raise ParameterError("format", "m4a", "it needs PyAV: pip install gbsep[av], or choose ogg or mp3") from None
    return sample_rate in (av.Codec("aac", "w").audio_rates or ())


class Encoder:
    """A file that is being written. Raises OSError where the disk takes no more."""

    def __init__(self, path: Path, sample_rate: int, channels: int):
        import av

        self.channels, self._rate, self._at = channels, sample_rate, 0
        self._layout = "mono" if channels == 1 else "stereo"
        self._file = path.open("w+b")
        try:
            # What the movie counts in is what the edit list counts in.
            options = {"fflags": "+bitexact", "movie_timescale": str(sample_rate)}
            self._container: Any = av.open(self._file, "w", format="ipod", options=options)
            self._stream: Any = self._container.add_stream("aac", rate=sample_rate, layout=self._layout)
            self._stream.bit_rate = BITS_PER_S * channels
            self._stream.codec_context.flags |= _BITEXACT
        except BaseException:
            self._file.close()
            raise

    def write(self, samples: NDArray[np.float32]) -> None:
        """Append float32 samples (n, channels)."""
        import av

        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T), format="fltp", layout=self._layout)
        frame.sample_rate, frame.time_base, frame.pts = self._rate, Fraction(1, self._rate), self._at
        self._at += samples.shape[0]
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Write what is left, and close the file; a second time nothing happens."""
        if self._file.closed:
            return
        with self._file:
            try:
                self._container.mux(self._stream.encode(None))
            finally:
                self._container.close()
