"""Finished renders on disk: the record, its folder, stems, the review."""
