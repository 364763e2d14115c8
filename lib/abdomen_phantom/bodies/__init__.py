"""Synthetic CTs painted on label maps of real people.

``reading`` makes a :class:`Body` of TotalSegmentator's structures and adds what they leave
out, ``shape`` bends it and exchanges organs, ``draw`` says what the CT looks like,
``kernel`` paints, and ``generate`` puts it together.
"""

from abdomen_phantom.bodies.generate import paint_body
from abdomen_phantom.bodies.reading import Body, read_bodies, read_body, read_organs, subjects

__all__ = ["Body", "paint_body", "read_bodies", "read_body", "read_organs", "subjects"]
