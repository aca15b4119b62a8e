"""Pretrained networks: what there is, where weights come from, and how to cut one in two."""
