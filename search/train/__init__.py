"""Full training of a variant on real images, with the recipe of its paper.

``python -m search.train`` is the command line; :class:`search.train.trainer.Trainer` does the work.
"""
