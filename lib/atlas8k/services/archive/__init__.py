"""Studies on a DICOMweb server: listed, fetched as they are needed, labels sent back.

A working folder beside the ledger holds what a studies folder holds, so that everything
else is the same code; see README.md.
"""
