"""Ablation: what each method of a recipe brings."""
