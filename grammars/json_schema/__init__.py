"""JSON Schema as grammar nodes: exact, or refused with the keyword and its JSON pointer.

document, schema          the text: subschemas with their pointers, references resolved
facts, keywords, formula  what a schema asks of a value of one type: a formula of facts
outline, profile, cases   formulas multiplied out, less what contradicts itself
context, values           the nodes: each value that occurs, with its alternatives
scalars, items, members   make the alternatives of a case; `writable` drops dead ends
objects, arrays           nodes; keys, names, name_kinds, strings, numbers, layout: terminals
relaxing                  `strict=False`
"""
