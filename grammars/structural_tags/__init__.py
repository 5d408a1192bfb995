"""Structural tags: free text until a trigger, then a section that a grammar holds, then free again.

formats      the JSON that clients send, checked, as nodes of a machine
nodes        what follows what
free_text    text up to a trigger or an end, and its masks
marks        begins, ends and separators, where a special token may stand for its text
"""
