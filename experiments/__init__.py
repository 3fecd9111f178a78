"""Why something was run: audits and ablations, one command each, with their results."""
