"""File formats of labels and CTs, one module or package a format."""
