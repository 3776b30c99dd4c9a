"""How a method arrived at a unit's label, drawn as one page."""
