"""Who moved, the network or the pictures: labels from activations and images that are each clean or perturbed."""
