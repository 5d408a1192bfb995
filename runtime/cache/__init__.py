"""What is kept between steps: KV pool (tensors), slot pool (who owns what), radix tree."""
