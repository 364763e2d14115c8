"""MONAI Label's tasks: inference, scoring, strategies, training."""
