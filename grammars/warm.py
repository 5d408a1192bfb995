"""What all grammars of a vocabulary use, made before the first of them is."""

from ramify.grammars import kernels
from ramify.grammars.compile import warm_lexer
from ramify.grammars.json_schema.formats import FORMATS
from ramify.grammars.json_schema.strings import quoted_format
from ramify.grammars.limits import DEFAULT_LIMITS, Budget
from ramify.grammars.vocabulary import Vocabulary


def warm(vocabulary: Vocabulary) -> None:
    """Load the kernels, and make the tables of strings, names, numbers, formats and punctuation."""
    kernels.load()
    vocabulary.tables["lexer"] = warm_lexer(vocabulary)
    len(vocabulary.nodes_by_byte(0))
    len(vocabulary.parents)
    for name in FORMATS:
        quoted_format(name, Budget(DEFAULT_LIMITS))
