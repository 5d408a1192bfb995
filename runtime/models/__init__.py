"""Model configurations, weights and forward passes."""
