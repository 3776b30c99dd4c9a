"""Reading and storing a layer's activations."""
