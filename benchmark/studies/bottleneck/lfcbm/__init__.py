"""Label-free concept bottleneck models (Oikarinen, Das, Nguyen and Weng, ICLR 2023, arXiv 2304.06129).

A network's features are projected on named concepts (``projection``), selected by filters (``concepts``), and a sparse
linear layer decides on the projections (``sparse``), so that each decision is a short sum over named concepts.
"""
