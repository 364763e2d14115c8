"""A campaign's labels as a dataset: chosen by a bar, laid out, written with their provenance."""
