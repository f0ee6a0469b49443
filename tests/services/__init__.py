"""The corpus: services with a mistake that people make, each beside its mended twin."""
