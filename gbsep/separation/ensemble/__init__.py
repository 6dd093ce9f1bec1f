"""Several separators in one: their stems averaged, or the first of them that is here."""
