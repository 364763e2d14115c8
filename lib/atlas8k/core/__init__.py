"""Ground: structures, grids, NIfTI files, resampling, whole files, errors, settings."""
