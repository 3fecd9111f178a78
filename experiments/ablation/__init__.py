"""Ablations as data: a base network, factors that change it, a design, a published table."""
