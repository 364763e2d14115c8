"""Measure how far two label maps agree: DSC and NSD."""
