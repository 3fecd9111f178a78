"""The accuracy proxy: seconds of training on digits that ship with scikit-learn.

A variant is scaled down by the rule of its family (:mod:`search.proxy.scaling`), gets a head
(:mod:`search.proxy.network`), is trained on canvases of digits (:mod:`search.proxy.digits`,
:mod:`search.proxy.training`) and measured (:mod:`search.proxy.evaluation`, which says what the
figures mean). :mod:`search.proxy.routing` is a second task, :mod:`search.proxy.transfer` has two
more, :mod:`search.proxy.tasks` says which means of them an accuracy may be, and
:mod:`search.proxy.statement` and :mod:`search.proxy.mean_statement` what every report must say
about all this. The test digits have no door here.
"""

from search.proxy.evaluation import ProxyResult, evaluate, evaluate_rung
from search.proxy.recipe import FULL, RECIPES, SEARCH, ProxyRecipe
from search.proxy.training import Paused, ProxyFailed

__all__ = [
    "FULL",
    "RECIPES",
    "SEARCH",
    "Paused",
    "ProxyFailed",
    "ProxyRecipe",
    "ProxyResult",
    "evaluate",
    "evaluate_rung",
]
