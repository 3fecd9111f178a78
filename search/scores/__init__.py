"""Zero-cost scores: numbers of untrained networks, from one batch, that may tell good from bad.

:mod:`search.scores.table` lists them; :mod:`search.scores.many` computes them for many variants.
"""
