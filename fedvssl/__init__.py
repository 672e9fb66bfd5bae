"""Federated self-supervised video representation learning (FedVSSL, arXiv 2207.01975) over Flower."""

__version__ = "0.1.0"
