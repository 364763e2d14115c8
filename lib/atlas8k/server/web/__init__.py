"""HTTP: routes, and what every request meets on its way."""
