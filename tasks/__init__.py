"""Models and layers, probing sets, perturbations, activations, and the miniature world."""
