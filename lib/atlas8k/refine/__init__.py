"""Change a label by strokes: what networks think and a CT shows, decided by a person."""
