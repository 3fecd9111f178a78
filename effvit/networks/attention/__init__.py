"""The attention types' modules, built from their designs in :mod:`effvit.designs.attention`.

A module is made from its design, takes a normed map (B, H, W, C) of any size and returns one. DSSA,
which is SepViT's own, also takes normed window tokens; :func:`block.build_block` hides that: blocks
take and return maps.
"""
