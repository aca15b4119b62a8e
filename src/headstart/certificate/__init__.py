"""The certificate: pretrained weights against training from scratch."""
