"""What the product offers: its routes, commands and settings, as one object."""
