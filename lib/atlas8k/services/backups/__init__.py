"""Backups of a campaign: made while it is served, checked, restored anywhere."""
