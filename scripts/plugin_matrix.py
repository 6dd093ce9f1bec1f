#!/usr/bin/env python3
"""Host every plug-in effect on this machine through gbsep's commands, and print a Markdown table of what works.

    python3 scripts/plugin_matrix.py                        all of them
    python3 scripts/plugin_matrix.py --match IEM --match mda
    python3 scripts/plugin_matrix.py --every 10 --match lsp-plugins

Each effect goes through `gbsep plugins show`, `gbsep plugins save` and `gbsep chain`, as a user would call them:

    renders    with its defaults, finite and of the same length
    sets       each of up to four parameters (but bypass and programs) to another value that it offers
    heard      a parameter changes the sound (not asked of analysers and tools, which pass it on)
    state      saved by `plugins save --set`, restored alone, it gives the same bytes as the parameters do
    automates  a parameter moves over the sound
    latency    an impulse comes out where it went in, or later where the effect delays it
    repeats    a second render gives the same bytes, or `plugins show --probe` says that it does not
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import platform
import re
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any

import environment

RATE = 44100
COLUMNS = ("renders", "sets", "heard", "state", "automates", "latency", "repeats")
MOST_PARAMETERS = 4
MOST_SEARCHED = 12
"""Parameters beyond those that are tried for one that changes the sound."""


@dataclass
class Row:
    """What became of one effect: for each column "yes", "no", or "n/a" where there is nothing to try, and why."""

    name: str
    suite: str
    version: str
    results: dict[str, str] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)

    def note(self, column: str, result: bool | str, reason: str = "") -> bool:
        self.results[column] = result if isinstance(result, str) else "yes" if result else "no"
        if reason:
            self.reasons.append(f"{column}: {reason}")
        return result is True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--match", action="append", default=[], help="Only plug-ins whose name or path has this in it.")
    parser.add_argument("--every", type=int, default=1, help="Of those only every so many.")
    parser.add_argument("--jobs", type=int, default=2, help="Plug-ins tried side by side.")
    parser.add_argument("--json", type=Path, help="Write the rows there, too.")
    options = parser.parse_args()
    environment.enter()
    code, out = command("plugins", "list", "--json")
    if code:
        sys.exit(out)
    listed = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    effects = [row for row in listed if row["layouts"] and not row["reason"] and not row["shadowed"]]
    chosen = [row for row in effects if not options.match or any(m in row["name"] + row["path"] for m in options.match)]
    with ProcessPoolExecutor(options.jobs) as pool:
        rows = []
        for row in pool.map(tried, chosen[:: options.every]):
            rows.append(row)
            print(f"{len(rows)}/{len(chosen[:: options.every])} {row.name}", file=sys.stderr, flush=True)
    report(rows, listed)
    if options.json:
        options.json.write_text(json.dumps([vars(row) for row in rows], indent=1))
    return 0


def command(*arguments: str) -> tuple[int, str]:
    """A command's exit code, and what it wrote on stdout, or when it failed on stderr."""
    from gbsep.cli import main as gbsep

    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            gbsep(list(arguments))
    except SystemExit as end:
        code = int(end.code or 0)
    except Exception as error:
        return 1, f"{type(error).__name__}: {error}"
    return code, err.getvalue().strip() if code else out.getvalue()


def tried(listed: dict[str, Any]) -> Row:
    """One effect through all columns, in a folder of its own."""
    row = Row(listed["name"], suite_of(listed), listed["version"])
    with tempfile.TemporaryDirectory(prefix="gbsep-matrix-") as folder:
        try:
            _try(row, listed, Path(folder))
        except Exception as error:  # a table with a hole in it says more than none
            row.reasons.append(f"{type(error).__name__}: {error}")
    return row


def suite_of(listed: dict[str, Any]) -> str:
    """The bundle's folder or package: what the vendor ships together."""
    return listed["vendor"] or Path(listed["path"]).stem


def _try(row: Row, listed: dict[str, Any], folder: Path) -> None:
    import numpy as np
    import soundfile

    rng = np.random.default_rng(0)
    tones = sum(np.sin(2 * np.pi * hz * np.arange(RATE) / RATE) for hz in (55.0, 110.0, 440.0, 1760.0, 5000.0))
    samples = 0.1 * tones * np.array([[1.0], [0.8]]) + 0.02 * rng.standard_normal((2, RATE))
    samples[:, : RATE // 4] *= 0.05  # something below the thresholds
    soundfile.write(folder / "in.wav", samples.T.astype(np.float32), RATE, "FLOAT")
    impulse = np.zeros((2, RATE), np.float32)
    impulse[:, RATE // 2] = 0.5
    soundfile.write(folder / "impulse.wav", impulse.T, RATE, "FLOAT")
    soundfile.write(folder / "silence.wav", 0 * impulse.T, RATE, "FLOAT")
    node = {"effect": "Plugin", "name": row.name, "vendor": listed["vendor"] or None}
    node = {key: value for key, value in node.items() if value}

    def render(what: str, file: str = "in.wav", **more: Any) -> tuple[bytes | None, str]:
        return chained(folder, what, file, node | more)

    plain, reason = render("plain")
    if not row.note("renders", plain is not None, reason):
        return
    assert plain is not None
    again, _ = render("again")
    repeats = again == plain
    if not repeats:
        code, shown = command("plugins", "show", row.name, "--vendor", listed["vendor"], "--probe", "--json")
        told = not code and json.loads(shown.splitlines()[-1])["nondeterministic"]
        row.note(
            "repeats", "says so" if told else False, "" if told else "two renders differ, and --probe does not say"
        )
    else:
        row.note("repeats", True)
    code, shown = command("plugins", "show", row.name, "--vendor", listed["vendor"], "--json")
    parameters = json.loads(shown.splitlines()[-1])["parameters"] if not code else []
    _try_parameters(row, parameters, listed["category"], plain if repeats else None, folder, render)
    _try_latency(row, render, folder)


def chained(folder: Path, what: str, file: str, node: dict[str, Any]) -> tuple[bytes | None, str]:
    """The samples of a file through one node, as `gbsep chain` writes them; None and the reason when it fails."""
    import soundfile

    preset = {
        "schema_version": 1,
        "name": what,
        "title": what,
        "separate": {"backend": "crossover", "cutoff_hz": 200},
        "stems": {"bass": {"from": ["bass"], "chain": [node]}},
    }
    (folder / f"{what}.json").write_text(json.dumps(preset))
    target = folder / f"{what}.wav"
    target.unlink(missing_ok=True)
    code, said = command(
        *("chain", str(folder / file), "-p", str(folder / f"{what}.json"), "--stem", "bass", "--out", str(target))
    )
    if code:
        return None, said.splitlines()[-1] if said else f"exit code {code}"
    samples, _ = soundfile.read(target, dtype="float32")
    return samples.tobytes(), ""


def _try_parameters(
    row: Row, parameters: list[dict[str, Any]], category: str, plain: bytes | None, folder: Path, render: Any
) -> None:
    usable = [(p, value) for p in parameters if (value := other_value(p)) is not None and not is_special(p)]
    if not usable:
        for column in ("sets", "heard", "state", "automates"):
            row.note(column, "n/a")
        return
    made, refused = {}, []
    for parameter, value in spread(usable):
        out, reason = render("set", parameters={parameter["name"]: value})
        rounded = re.search(r"the plug-in makes it (-?[0-9.]+)[; ]", reason)
        if out is None and rounded:  # it is told what there is: the nearest value
            value = float(rounded.group(1))
            out, reason = render("set", parameters={parameter["name"]: value})
        if out is None:
            refused.append(reason.partition("parameters.")[2] or reason)
        else:
            made[parameter["name"]] = (value, out)
    total = len(made) + len(refused)
    row.note("sets", True if not refused else f"{len(made)}/{total}", "; ".join(refused))
    heard = [name for name, (_, out) in made.items() if plain is not None and out != plain]
    if not heard and plain is not None:
        others = (parameter["name"] for parameter, _ in usable if parameter["name"] not in made)
        heard = [name for name in islice(others, MOST_SEARCHED) if _changes(render, usable, name, plain)][:1]
    if plain is None:
        row.note("heard", "n/a")
    else:
        watches = any(word in category for word in ("Analyzer", "Tools"))
        row.note(
            "heard",
            "n/a" if watches and not heard else bool(heard),
            "" if heard else f"no parameter changes this sound ({category})",
        )
    name = next(iter(heard or made), None)
    if name is None:
        return
    _try_state(row, name, made[name][0] if name in made else {p["name"]: v for p, v in usable}[name], folder, render)
    moving = [(p, v) for p, v in usable if isinstance(v, float) and p["automatable"]]
    if not moving:
        row.note("automates", "n/a")
        return
    parameter, value = next(((p, v) for p, v in moving if p["name"] == name), moving[0])
    lane = {"points": [[0.2, number(parameter)], [0.8, value]]}
    out, reason = render("automate", parameters={parameter["name"]: lane})
    row.note("automates", out is not None, reason)


def _changes(render: Any, usable: list[Any], name: str, plain: bytes) -> bool:
    """Whether one of the parameters that were not tried yet changes the sound; costs a render each."""
    value = {parameter["name"]: value for parameter, value in usable}[name]
    out, _ = render("search", parameters={name: value})
    return out is not None and out != plain


def _try_state(row: Row, name: str, value: Any, folder: Path, render: Any) -> None:
    text = json.dumps(value) if not isinstance(value, str) else value
    state = folder / "kept.vstpreset"
    code, said = command("plugins", "save", row.name, str(state), "--set", f"{name}={text}", "--overwrite")
    if code:
        row.note("state", False, said.splitlines()[-1])
        return
    by_parameter, _ = render("by-parameter", parameters={name: value})
    by_state, reason = render("by-state", state=state.name)
    same = by_state is not None and by_state == by_parameter
    if not same and row.results["repeats"] != "yes":
        row.note("state", "n/a")
    else:
        row.note("state", same, "" if same else reason or f"{name} = {value!r}: other bytes than with the parameter")


def _try_latency(row: Row, render: Any, folder: Path) -> None:
    import numpy as np

    out, reason = render("click", "impulse.wav")
    silence, _ = render("still", "silence.wav")
    if out is None or silence is None:
        row.note("latency", False, reason)
        return
    heard, alone = (np.frombuffer(data, np.float32).reshape(-1, 2) for data in (out, silence))
    response = np.abs(heard - alone).max(axis=1)
    if response.max() < 1e-6:
        row.note("latency", "n/a")
        return
    late = int(np.argmax(response > 0.1 * response.max())) - RATE // 2
    row.note("latency", late >= -64, "" if late >= -64 else f"the impulse comes out {-late} frames early")


def spread(usable: list[Any]) -> list[Any]:
    """A few parameters, from all over the list."""
    step = max(1, len(usable) // MOST_PARAMETERS)
    return usable[::step][:MOST_PARAMETERS]


def is_special(parameter: dict[str, Any]) -> bool:
    """The bypass, which is all or nothing, and the choice of a program, which stands for other parameters."""
    return any(word in parameter["name"] for word in ("bypass", "program"))


def number(parameter: dict[str, Any]) -> float:
    """The current value as a number within the range."""
    value = parameter["value"]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return min(max(float(value), parameter["low"]), parameter["high"])
    return float(parameter["low"])


def other_value(parameter: dict[str, Any]) -> Any:
    """A value that the parameter offers and does not have; None when there is none."""
    if parameter["read_only"]:
        return None
    value = parameter["value"]
    if parameter["steps"]:
        others = [step for step in parameter["steps"] if step != value]
        return others[len(others) // 2] if others else None
    if parameter["low"] is not None:
        low, high = parameter["low"], parameter["high"]
        for share in (0.37, 0.71):
            wanted = low + share * (high - low)
            digits = max(0, 3 - len(str(int(abs(high - low)))))
            rounded = round(wanted, digits) if low <= round(wanted, digits) <= high else wanted
            if rounded != value:
                return float(rounded)
        return None
    others = [choice for choice in parameter["choices"] if choice != value]
    return others[len(others) // 2] if others else None


def report(rows: list[Row], listed: list[dict[str, Any]]) -> None:
    import pedalboard

    print(f"Hosted on {date.today()}: gbsep {_version()}, Python {platform.python_version()}, ", end="")
    print(f"Pedalboard {pedalboard.__version__}, {platform.system()} {platform.machine()}.")
    broken = [row for row in listed if row["reason"]]
    instruments = [row for row in listed if not row["layouts"] and not row["reason"]]
    print(f"{len(listed)} plug-ins listed: {len(instruments)} instruments, {len(broken)} in quarantine.\n")
    print("| suite | effects | " + " | ".join(COLUMNS) + " |")
    print("|---|---|" + "---|" * len(COLUMNS))
    suites = sorted({row.suite for row in rows})
    for suite, chosen in [*((s, [r for r in rows if r.suite == s]) for s in suites), ("**all**", rows)]:
        cells = [share(chosen, column) for column in COLUMNS]
        print(f"| {suite} | {len(chosen)} | " + " | ".join(cells) + " |")
    print("\n| effect | suite | " + " | ".join(COLUMNS) + " | why |")
    print("|---|---|" + "---|" * (len(COLUMNS) + 1))
    for row in rows:
        cells = [row.results.get(column, "-") for column in COLUMNS]
        why = "; ".join(row.reasons).replace("|", "\\|").replace("\n", " ")[:300]
        print(f"| {row.name} {row.version} | {row.suite} | " + " | ".join(cells) + f" | {why} |")
    for row in broken:
        print(f"\nquarantined: {row['name']}: {row['reason']}")


def share(rows: list[Row], column: str) -> str:
    """How many of those that could be tried did well."""
    tried = [row for row in rows if row.results.get(column, "no") != "n/a"]
    good = [row for row in tried if row.results.get(column) in ("yes", "says so")]
    return f"{len(good)}/{len(tried)}" + (f" ({len(good) / len(tried):.0%})" if tried and rows else "")


def _version() -> str:
    import gbsep

    return gbsep.__version__


if __name__ == "__main__":
    sys.exit(main())
