"""Labels of the same units found with other images: ``--analysis exchange``."""
