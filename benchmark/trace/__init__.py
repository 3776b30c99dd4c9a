"""How a method came to a unit's label, drawn as one page."""
