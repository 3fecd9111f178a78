"""All attention types in one visible place."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from effvit.designs.attention.convolution import SeparableConvolution
from effvit.designs.attention.cross import CrossWindowAttention
from effvit.designs.attention.design import AttentionDesign, Site
from effvit.designs.attention.full import FullAttention
from effvit.designs.attention.linear import ContextAttention, ReLULinearAttention
from effvit.designs.attention.linformer import LinformerAttention
from effvit.designs.attention.separable import SeparableAttention
from effvit.designs.attention.sub_sampled import SubSampledAttention
from effvit.designs.attention.windows import ShiftedWindowAttention, WindowAttention

DesignAt = Callable[[Site], AttentionDesign]
"""Makes an attention's design at a stage."""

AttentionType = tuple[DesignAt, ...]
"""The designs of a type; its blocks take turns where there are several."""

ATTENTION_TYPES: Mapping[str, AttentionType] = {
    "dssa": (SeparableAttention.at,),
    "gsa": (SeparableAttention.grouped,),
    "window": (WindowAttention.at,),
    "shifted_window": (ShiftedWindowAttention.at,),
    "sub_sampled": (SubSampledAttention.at,),
    "twins": (WindowAttention.at, SubSampledAttention.at),
    "cross_window": (CrossWindowAttention.at,),
    "separable": (ContextAttention.at,),
    "relu_linear": (ReLULinearAttention.at,),
    "multi_scale_relu_linear": (ReLULinearAttention.multi_scale,),
    "linformer": (LinformerAttention.at,),
    "full": (FullAttention.at,),
    "convolution": (SeparableConvolution.at,),
}
"""By the names that configurations use. A new type is a design class, its module, and a row."""
