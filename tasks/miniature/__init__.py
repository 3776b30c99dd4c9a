"""The miniature: a synthetic benchmark of rendered scenes whose truth is known exactly, and models trained on it.

``python -m tasks.miniature gallery|train|evaluate|export`` draws, trains, measures and exports it.
"""
