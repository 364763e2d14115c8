"""atlas8k: the AbdomenAtlas-8K annotation procedure as a MONAI Label app.

Start at ``README.md`` beside this file: what is where, and how a CT, a submission and a
setting travel.
"""

__version__ = "0.2.0"
