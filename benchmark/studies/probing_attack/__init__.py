"""Attack on the probing images: ``--analysis probing_attack``."""
