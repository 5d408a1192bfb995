"""`ramify grammar check SPEC [TEXT]`: does a text fit, and if not, where and what would."""

import argparse

from ramify.cli.options import require

KINDS = ("regex", "json_schema", "ebnf", "structural_tag", "choices")


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Define the verb's options."""
    parser = verbs.add_parser("grammar", help="try out a regex, JSON Schema or grammar")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    check = actions.add_parser(
        "check",
        help="does a text fit, and if not, where and what would",
        description="Compile SPEC as a request's constraint would be and say whether TEXT fits: "
        "exit code 0 if it does, 1 if not, 2 if SPEC cannot be served. Needs no model.",
    )
    check.add_argument("spec", metavar="SPEC", help="a regex, schema or grammar, or a file of one")
    check.add_argument("text", metavar="TEXT", nargs="?", help="the text; - reads standard input")
    check.add_argument(
        "--kind",
        choices=KINDS,
        help="what SPEC is; default: by the file's ending (.json, .gbnf, .lark), else json_schema "
        "for a JSON object (structural_tag where that is its type), choices for a JSON list, ebnf "
        "where there is a '::=', else regex",
    )
    check.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Compile, then match."""
    require("numpy", "lark", extra="runtime", verb="grammar")
    from ramify.cli import grammar_check  # late: other verbs need no numpy

    return grammar_check.run(options)
