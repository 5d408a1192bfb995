"""The request graph: nodes, edges, costs, printed forms."""

import re

from ramify import MockBackend, ProgramError, function, gen, select, user


@function
def story(s):
    s += user("tell")
    s += gen("plot") + " then "
    forks = s.fork(2)
    forks += ["a ", "bc "]
    forks += gen("scene")
    forks.join("concate_and_append")
    s += "The end. " + select("good", ["yes", "no"])


def nodes_by_kind(graph):
    kinds = {}
    for node in graph:
        kinds.setdefault(node.kind, []).append(node)
    return kinds


def test_nodes_and_edges():
    graph = story.run(backend=MockBackend()).graph
    shape = [(node.kind, node.inputs, node.state) for node in graph]
    assert shape == [
        ("prefill", (), "0"),
        ("generate", (0,), "0"),
        ("prefill", (1,), "0"),
        ("fork", (2,), "0"),
        ("prefill", (3,), "0.0"),
        ("generate", (4,), "0.0"),
        ("prefill", (3,), "0.1"),
        ("generate", (6,), "0.1"),
        ("join", (3, 5, 7), "0"),
        ("prefill", (8,), "0"),
        ("select", (9,), "0"),
    ]


def test_costs():
    graph = story.run(backend=MockBackend(["plot", "s1", "s2", "no"])).graph
    kinds = nodes_by_kind(graph)
    first = kinds["generate"][0]
    assert kinds["prefill"][0].tokens == first.usage.prompt_tokens
    assert first.usage.completion_tokens == 4
    assert kinds["select"][0].usage.prompt_tokens > 0
    for node in (*kinds["generate"], *kinds["select"]):
        assert node.status == "done"
        assert 0 <= node.started <= node.finished
        assert re.match(r"test_graph\.py:\d+", node.where)


def test_text_between_calls_costs_what_it_adds():
    @function
    def body(s):
        s += "12345" + gen("x") + "678" + select("y", ["aa", "b"]) + "90" + gen("z")

    graph = body.run(backend=MockBackend(["four", "aa", ""])).graph
    assert [node.tokens for node in graph if node.kind == "prefill"] == [5, 3, 2]


def test_failed_and_cancelled_nodes():
    @function
    def body(s):
        with s.copy() as fork:
            fork += gen("dropped")
        s += gen("x")

    state = body.run_batch([{}], backend=MockBackend([ValueError("mine")], delay_s=0.05))[0]
    assert isinstance(state.error(), ProgramError)
    statuses = {node.label: node.status for node in state.graph if node.kind == "generate"}
    assert statuses["x"] == "failed"
    assert statuses["dropped"] in ("cancelled", "failed")


def test_printed_as_text():
    text = str(story.run(backend=MockBackend()).graph)
    lines = text.split("\n")
    assert lines[0] == "story()"
    assert re.match(r'  %0   prefill  "\[user\] tell', lines[1])
    assert re.search(r"generate \"plot\" +<- %0 .*in \d+ \(cached 0\) out 4", lines[2])


def test_printed_as_mermaid():
    graph = story.run(backend=MockBackend()).graph
    text = graph.to_mermaid()
    assert text.startswith("flowchart TD\n")
    assert text.count("-->") == sum(len(node.inputs) for node in graph)
    for line in text.split("\n")[1:]:
        assert re.fullmatch(r'  n\d+(\S*".*"\S*| --> n\d+)', line), line
        assert line.count('"') in (0, 2)
