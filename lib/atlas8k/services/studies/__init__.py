"""A studies folder: its images and label files on disk, and what the store knows of them.

MONAI Label's interface over it is :class:`atlas8k.server.datastore.StudiesDatastore`.
"""
