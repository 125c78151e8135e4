"""A study told to people: words, tables, one HTML page, notes."""
