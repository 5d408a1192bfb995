"""Context-free grammars in GBNF (also as W3C and xgrammar write it) and in Lark's syntax.

`gbnf` and `lark_syntax` read texts into rules; `rules` takes left recursion and empty rules out of
them and makes nodes. Texts are matched as characters, without a separate lexer: whatever splits
into the grammar's terminals in some way is accepted.
"""
