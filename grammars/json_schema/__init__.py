"""JSON Schema as grammar nodes: exact, or refused with the keyword and its JSON pointer.

`document` reads the text and resolves references; `formula` says what a schema asks of a value of
one type, as a boolean formula of facts; `cases` multiplies formulas out into cases; `values`,
`objects` and `arrays` are the grammar's nodes; `strings` and `numbers` its terminals.
"""
