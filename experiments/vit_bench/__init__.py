"""ViT-Bench-101: accuracies that others trained, against scores, costs and what can be learned."""
