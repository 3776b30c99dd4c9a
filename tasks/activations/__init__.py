"""Reading a layer's activations and keeping them."""
