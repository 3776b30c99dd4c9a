"""Models and layers, probing sets, perturbations, activations, and the synthetic benchmark (miniature)."""
