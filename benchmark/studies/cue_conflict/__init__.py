"""What labels follow where two cues are tied, and then swapped: ``--analysis cue_conflict``."""
