"""How good labels, networks and rankings are: metrics, statistics, tables and a report.

Arrays and tables only: nothing here needs torch, MONAI or MONAI Label.
"""
