"""Runs a planned step: tensors of the batch, forward pass, sampling."""
