"""The studies folder behind MONAI Label's datastore interface.

The state is the files on disk and one SQLite file for what is known about them. Import
:class:`~atlas8k.server.datastore.StudiesDatastore` from its module: it needs
monailabel, and with it torch; the rest of this package does not.
"""
