"""The line that a stem plays, written down: notes, their files, their fingering."""
