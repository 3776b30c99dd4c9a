"""How often sets of labels from resampled probing sets hold the label of a further one, and a right label."""
