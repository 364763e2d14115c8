"""Scoring on many machines or GPUs with Ray (https://docs.ray.io), an optional extra.

The process that begins it, the driver, is the only one that writes to the store. Workers keep
the networks loaded, take the largest volumes first, and send back labels and sizes.
"""
