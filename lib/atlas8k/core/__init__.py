"""Base of the other packages: structures, grids, NIfTI, resampling, files, errors, settings."""
