"""The attention types, each a design free of torch: what it reads, its normal form, its cost.

All are named in one place, :data:`effvit.designs.attention.types.ATTENTION_TYPES`. The modules are
in :mod:`effvit.networks.attention`.
"""
