"""One's own cases, below ``/atlas8k/cases``: what is open, and what may be done with it."""
