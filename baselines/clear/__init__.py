"""CLEAR: Describe-and-Dissect that looks at the same images in several contexts and keeps what holds in all of them.

Importing this package is light; the method itself is in ``baselines.clear.method``.
"""
