"""How variants are measured and chosen: objectives, samplers, study, run."""
