"""A mixture in, stems out: a module or package for each backend."""
