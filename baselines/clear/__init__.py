"""CLEAR: Describe-and-Dissect on the same images in several contexts, keeping the concepts that hold in all of them.

Importing this package is light; the method itself is in ``baselines.clear.method``.
"""
