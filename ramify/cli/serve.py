"""`ramify serve [MODEL]`: the HTTP server over one engine."""

import argparse
import os

from ramify.cli import options as config_options
from ramify.runtime.config import EngineConfig, ServerConfig
from ramify.runtime.options import add_flags, describe, resolve


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Define the verb's options."""
    parser = verbs.add_parser(
        "serve",
        help="serve a model over HTTP",
        description="Serve a model over HTTP: /generate, and the OpenAI-compatible routes under "
        "/v1. Every option is also an environment variable: --port is RAMIFY_PORT.",
    )
    parser.add_argument("positional_model", nargs="?", metavar="MODEL", help="same as --model")
    config_options.add_print_config(parser)
    add_flags(parser, EngineConfig)
    add_flags(parser, ServerConfig)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Serve until a signal ends it."""
    engine = config_options.engine_config(options)
    server = resolve(ServerConfig, vars(options), os.environ)
    if options.print_config:
        print(describe(engine, server))
        return 0
    config_options.require("aiohttp", "torch", extra="runtime", verb="serve")
    from ramify.runtime.api.launch import serve

    return serve(engine.config, server.config)
