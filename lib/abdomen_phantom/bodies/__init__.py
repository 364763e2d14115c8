"""Synthetic CTs painted on label maps of real people.

``label_maps`` makes a :class:`Body` of TotalSegmentator's structures and adds what they
leave out, ``shape`` bends it and exchanges organs, ``draw`` draws how the CT looks,
``kernel`` computes densities and labels, and ``paint`` runs these in order.
"""

from abdomen_phantom.bodies.label_maps import Body, read_bodies, read_body, read_organs, subjects
from abdomen_phantom.bodies.paint import paint_body

__all__ = ["Body", "paint_body", "read_bodies", "read_body", "read_organs", "subjects"]
