"""Finds a model and reads its weights.

resolve.py   name or path -> `ModelFiles` (a Hugging Face directory, checked, with its config)
weights.py   `ModelFiles` -> (name, tensor) pairs: safetensors, or seeded random numbers
bundled.py   where the model that comes with `ramify[demo]` lies
gguf_model.py    a GGUF file -> config, tokenizer and tensors under Hugging Face's names
gguf_convert.py  a GGUF file -> a Hugging Face directory, made once in the user's cache
cache_dir.py     directories that are built once, whole or not at all, and checked when used again

A model directory is only data: no code of a checkpoint is run, no pickle is opened.
"""
