"""Context-free grammars in GBNF (also as W3C and xgrammar write it) and in Lark's syntax.

`gbnf` and `lark_syntax` read texts into `items`; `rules` finds what is regular in them and makes
`nodes` of the rest, in `normal_form`. Texts are matched as characters, without a separate lexer:
whatever splits into the grammar's terminals in some way is accepted.
"""
