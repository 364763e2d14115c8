"""Predictions of the active networks: made, kept in a bounded cache, asked."""
