"""Labels of another network's units beside the run's: ``--analysis networks --against OTHER``."""
