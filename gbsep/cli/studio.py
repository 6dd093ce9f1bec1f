"""The pages with a server behind them: `studio` and `review`."""

from __future__ import annotations

import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import ParameterError
from .common import debug_option
from .helping import command

if TYPE_CHECKING:
    from ..studio import Server

PORT = click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port on 127.0.0.1. [default: a free one]")
NO_BROWSER = click.option("--no-browser", is_flag=True, help="Print the address and do not open it.")


@command(short_help="Drop a song, hear it apart, turn knobs, take it home.")
@click.argument("folder", metavar="[FOLDER]", type=click.Path(path_type=Path), default=Path())
@click.option("--out", type=click.Path(path_type=Path), help="Where renders go. [default: FOLDER/gbsep-out]")
@PORT
@NO_BROWSER
@debug_option
def studio(folder: Path, out: Path | None, port: int, no_browser: bool) -> int:
    """Open the studio for the songs of FOLDER, or of this folder.

    Drop a recording on the page: its first seconds come apart at once and play,
    the rest follows. Mix, loop, slow down, turn the effects of each stem, take
    home stems, mixes and sessions. What is dropped and what is made lies in
    FOLDER. The page is for this machine alone. Ctrl-C ends it; what was not done
    is done when it is opened again.

    \b
    gbsep studio                            the songs of this folder
    gbsep studio ~/songs --no-browser       print the address only
    """
    from ..studio import Server

    _serve(lambda: Server(folder, out, port), port, no_browser, "the studio; what is not done yet is done next time")
    return 0


@command(short_help="Hear, see, accept, swap stems, write notes: a page.")
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
@PORT
@NO_BROWSER
@debug_option
def review(out: Path, port: int, no_browser: bool) -> int:
    """Show the renders below OUT in the browser, and keep what you decide.

    Accept or reject a song, swap the stems of a render that took one for the
    other, write a note at a time, choose the preset to use. It goes into
    OUT/<track>/review.json at once, and the next gbsep render obeys. The page is
    for this machine alone. Ctrl-C ends it.

    \b
    gbsep review gbsep-out
    gbsep render song.wav                         obeys what was decided
    """
    from ..studio import Server

    _serve(lambda: Server(out=out, port=port), port, no_browser, "the review; what you decide is saved at once")
    return 0


def _serve(make: Callable[[], Server], port: int, no_browser: bool, what: str) -> None:
    try:
        server = make()
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ParameterError("port", port, f"cannot be used ({reason}); leave --port out for a free one") from None
    try:
        click.echo(server.address)
        click.echo(f"Ctrl-C ends {what}", err=True)
        if not no_browser:
            webbrowser.open(server.address)
        server.serve_forever()
    except KeyboardInterrupt:
        click.echo("ended", err=True)
    finally:
        server.server_close()
