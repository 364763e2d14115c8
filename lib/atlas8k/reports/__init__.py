"""Measure labels, networks and rankings: metrics, statistics, tables and a report.

Arrays and tables only: nothing here needs torch, MONAI or MONAI Label.
"""
