"""Latency on this machine, with its noise.

Wall time of one network varies by tens of percent on a busy machine, the ratio to a reference
network that runs in turn with it by a few. So every measurement interleaves the two, the ratio is
what is kept, and milliseconds are the ratio times the reference's median at the start of the run.
"""

from search.latency.guess import LatencyGuess
from search.latency.meter import LatencyMeter
from search.latency.protocol import Latency, LatencyProtocol, Meter

__all__ = ["Latency", "LatencyGuess", "LatencyMeter", "LatencyProtocol", "Meter"]
