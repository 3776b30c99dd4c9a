"""Classification accuracy under perturbation."""
