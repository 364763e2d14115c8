"""Read and write file formats of labels and CTs, one module or package a format."""
