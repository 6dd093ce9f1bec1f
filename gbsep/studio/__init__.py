"""The studio: one page on this machine in which songs come apart, are mixed, practised, changed and taken home.

server.py     the server on 127.0.0.1, what it may answer (guard.py) and how it reads requests (asking.py)
reviewing.py  the routes of the report and its review; library.py, songs.py those of the studio's songs
jobs.py       the queue: real renders in worker processes
sound.py      what the page plays: pieces of sound, through live chains and time stretching
takehome.py   what leaves the page: stems, mixes, sessions, the report
"""

from .server import Server

__all__ = ["Server"]
