#!/usr/bin/env python3
"""Set gbsep up and try it: make the demo song, separate it with the default preset, compare with the true stems."""

from __future__ import annotations

import argparse

import environment


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    environment.enter("demo")
    import gbsep
    from gbsep.demo import write_demo
    from gbsep.measure.evaluate import sdr

    folder = environment.ROOT / "gbsep-demo"
    print(f"Making the demo song in {folder} ...", flush=True)
    song = write_demo(folder, overwrite=True)
    print("Separating it with the default preset ...", flush=True)
    outcome = gbsep.render(song["mixture"], "default", folder / "stems", overwrite=True)
    print(f"Done in {sum(outcome.seconds.values()):.0f} s. The stems are in {outcome.folder}:\n")
    mixture = gbsep.read(song["mixture"])
    print(f"{'stem':8}{'file':14}{'SDR':>10}{'the mixture itself':>22}")
    for name in ("bass", "guitar"):
        truth, estimate = gbsep.read(song[name]), gbsep.read(outcome.files[name])
        print(f"{name:8}{outcome.files[name].name:14}{sdr(truth, estimate):>7.1f} dB{sdr(truth, mixture):>19.1f} dB")
    print(
        "\nSDR is how far the error lies below the true stem; this is a synthetic song, no evidence of quality.\n"
        f"Now try your own: {environment.PYTHON.parent / 'gbsep'} render YOUR_SONG.wav\n"
        "Demucs and training need more; pip install . brings all of it."
    )


if __name__ == "__main__":
    main()
