"""Text to tokens and back.

tokenizer.py        `Tokenizer`, `load_tokenizer`: what the engine uses
json_codec.py       tokenizer.json, through the package tokenizers
tiktoken_codec.py   tiktoken-format files (Llama 3's tokenizer.model, qwen.tiktoken)
special.py          special tokens, end-of-sequence ids and chat template of a model directory
detokenizer.py      tokens of a running sequence to text, never half a character
stop.py             stop strings and patterns over that text

Decoding joins the bytes of tokens; nothing is decoded twice, so its cost per token is constant.
"""
