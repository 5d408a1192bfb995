"""What all grammars of a vocabulary use, made before the first of them is."""

from ramify.grammars import kernels
from ramify.grammars.compile import warm_lexer
from ramify.grammars.vocabulary import Vocabulary


def warm(vocabulary: Vocabulary) -> None:
    """Load the kernels, and make the tables of strings, names, numbers and punctuation."""
    kernels.load()
    vocabulary.tables["lexer"] = warm_lexer(vocabulary)
    len(vocabulary.nodes_by_byte(0))
    len(vocabulary.parents)
