"""Synthetic CTs painted on label maps of real people."""
