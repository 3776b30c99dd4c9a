"""What a run says of the units themselves, whatever they are called: ``--analysis NAME``."""
