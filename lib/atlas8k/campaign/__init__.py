"""The eight steps as one loop: rounds, budget, stop rule, audits, effort; a simulated annotator.

Nothing here imports MONAI Label or the server: arguments bring what a round needs of them.
"""
