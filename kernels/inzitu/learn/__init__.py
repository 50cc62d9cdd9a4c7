"""The numerics of learning: networks, heads, scores, training, prediction, bundles."""
