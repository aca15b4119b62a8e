"""Pretrained networks: the catalog, their weights, and how to cut one into two parts."""
