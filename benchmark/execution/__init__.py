"""How the work of a run is cut into items, who does which of them, and the loop that does all of them here."""
