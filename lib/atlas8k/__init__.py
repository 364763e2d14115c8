"""atlas8k: the AbdomenAtlas-8K annotation procedure as a MONAI Label app.

Start at :mod:`atlas8k.core.structures` for the words and :mod:`atlas8k.core.volume` for the
geometry; each sub-package is one stage of the procedure.
"""

__version__ = "0.2.0"
