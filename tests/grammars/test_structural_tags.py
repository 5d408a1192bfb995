"""Structural tags against a reader of texts that knows `str.find`, `re` and `jsonschema` only."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramify.grammars import GrammarError, Matcher, StructuralTagSpec, Vocabulary, compile_grammar
from tests.grammars import structural_tag_reader as reader
from tests.grammars.test_docs import code, rows
from tests.grammars.test_properties import draws
from tests.grammars.test_tight import check as check_tight
from tests.grammars.vocabularies import allowed, brute_force, byte_vocabulary
from tests.grammars.walks import walk

PIECES = (b"<f", b"<f=", b"f=", b"a<f=a>", b"</f", b"/f>", b"</f>a", "aé".encode(), b"\xc3")
PIECES += (b"\xa9<", b"x</f>", b"12", b"<f=a>1</f><f=", b"\xff<f=", b"ab", b"aab", b"bb<", b"<a")
VOCABULARY = byte_vocabulary(*PIECES)
ANY = {"type": "any_text"}
RECORD = {"type": "object", "properties": {"x": {"enum": ["</f>", 1]}}, "required": ["x"]}
RECORD |= {"additionalProperties": False}


def const(text):
    return {"type": "const_string", "value": text}


def regex(pattern):
    return {"type": "regex", "pattern": pattern}


def tag(begin, content, end):
    return {"type": "tag", "begin": begin, "content": content, "end": end}


def triggered(triggers, tags, **more):
    return {"type": "triggered_tags", "triggers": triggers, "tags": tags, **more}


def compiled(form, vocabulary=VOCABULARY):
    text = json.dumps({"type": "structural_tag", "format": form})
    return compile_grammar(StructuralTagSpec(text), vocabulary)


def accepts(grammar, text):
    matcher = Matcher(grammar)
    return matcher.accept_text(text.encode()) and matcher.is_complete


CONTENTS = {
    "a": regex("[0-9]{1,2}"),
    "b": {"type": "json_schema", "json_schema": RECORD, "max_whitespace_cnt": 1},
    "c": ANY,
}
WORDS = ("<f=", "<f", "<", "a>", "b>", "c>", "1", "12", "</f>", "</f", "é", "z", '{"x": 1}', " ")
WORDS += ('{"x": "</f>"}', "<f=b>", "<f=c>é<f=</f>", *3 * ("<f=a>1</f>",))


@pytest.mark.parametrize("at_least_one", [False, True])
@pytest.mark.parametrize("stop", [False, True])
@pytest.mark.parametrize("excludes", [[], ["z", "é1"]])
def test_triggered_tags_are_what_a_plain_reader_reads(at_least_one, stop, excludes):
    tags = [tag(f"<f={name}>", content, "</f>") for name, content in CONTENTS.items()]
    options = {"at_least_one": at_least_one, "stop_after_first": stop, "excludes": excludes}
    check_texts(triggered(["<f="], tags, **options), WORDS, random.Random(len(excludes)), 1500)


def check_texts(form, words, rng, num_texts):
    grammar = compiled(form)
    for _ in range(num_texts):
        text = "".join(rng.choices(words, k=rng.randrange(7)))
        assert accepts(grammar, text) == reader.accepts(form, text), (form, text)
    for _ in range(10):
        found = walk(Matcher(grammar), rng, num_steps=30, audit=0.2)
        assert found is None or reader.accepts(form, found.decode()), (form, found)


MARKS = ("<a", "<b", "<", "ab", "aa", "é<", "a", "b<a")


def random_format(rng, depth):
    kinds = ["const", "regex", "any"]
    if depth:
        kinds += ["sequence", "or", "optional", "repeat", *2 * ["tag", "triggered", "separated"]]
        kinds += ["dispatch"]
    below = depth - 1
    match rng.choice(kinds):
        case "const":
            return const("".join(rng.choices("ab<é", k=rng.randrange(3))))
        case "regex":
            return regex(rng.choice(["a*", "[ab]{1,2}", "b+|<a", "(ab)*<?"]))
        case "any":
            return ANY | {"excludes": rng.sample(MARKS, k=rng.randrange(2))}
        case "sequence" | "or" as kind:
            count = rng.randrange(1, 4)
            return {"type": kind, "elements": [random_format(rng, below) for _ in range(count)]}
        case "optional":
            return {"type": "optional", "content": random_format(rng, below)}
        case "repeat":
            low = rng.randrange(3)
            body = {"type": "repeat", "min": low, "max": rng.choice([-1, low, low + 2])}
            return body | {"content": random_format(rng, below)}
        case "tag":
            return random_tag(rng, below, "")
        case "triggered":
            triggers = rng.sample(MARKS, k=rng.randrange(1, 3))
            tags = [random_tag(rng, below, trigger) for trigger in triggers for _ in range(2)]
            flags = {name: rng.random() < 0.3 for name in ("at_least_one", "stop_after_first")}
            return triggered(
                triggers, tags, excludes=rng.sample(MARKS, k=rng.randrange(2)), **flags
            )
        case "separated":
            tags = [random_tag(rng, below, "") for _ in range(rng.randrange(1, 3))]
            flags = {name: rng.random() < 0.3 for name in ("at_least_one", "stop_after_first")}
            separator = rng.choice(["", "a", "<"])
            return {"type": "tags_with_separator", "tags": tags, "separator": separator, **flags}
    rules = [[mark, random_format(rng, below)] for mark in rng.sample(MARKS, k=rng.randrange(1, 3))]
    excludes = rng.sample(MARKS, k=rng.randrange(2))
    return {"type": "dispatch", "rules": rules, "loop": rng.random() < 0.6, "excludes": excludes}


def random_tag(rng, depth, trigger):
    ends = ["", "b", "<", "aa", "é", ["a", "<b"]]
    return tag(trigger + rng.choice(["", "a", "<"]), random_format(rng, depth), rng.choice(ends))


def test_random_formats_are_what_a_plain_reader_reads():
    rng = random.Random(5)
    served = 0
    for _ in range(400):
        form = random_format(rng, 3)
        try:
            compiled(form)
        except GrammarError as error:
            if error.pointer is None:
                raise
            continue
        served += 1
        check_texts(form, ("a", "b", "<", "<a", "é", "ab", "aa", "<b"), rng, 25)
    assert served > 150


# -- special tokens

TEXTS = [bytes([byte]) for byte in range(256)]
CALL, END_CALL, ALONE, EOS = 256, 257, 258, 259
SPECIAL = Vocabulary(
    [*TEXTS, None, None, None, None, b"</", b"<c", b"1</"],
    [EOS],
    {"<call>": CALL, "</call>": END_CALL, "<eos>": EOS},
)


def ids(*parts):
    return [
        token for part in parts for token in (part.encode() if isinstance(part, str) else [part])
    ]


def takes(grammar, tokens):
    matcher = Matcher(grammar)
    for token in tokens:
        assert allowed(matcher) == brute_force(matcher)
        if not matcher.accept(token):
            return False
    return matcher.is_complete


def test_a_special_token_stands_for_its_text_where_the_structure_names_it():
    grammar = compiled(triggered(["<call>"], [tag("<call>", regex("[0-9]"), "</call>")]), SPECIAL)
    assert takes(grammar, ids("a", CALL, "1", END_CALL, "b"))
    assert takes(grammar, ids("a<call>1</call>b", CALL, "2</call>"))
    assert not takes(grammar, ids("a", CALL, CALL))
    assert not takes(grammar, ids("a", CALL, "x"))
    assert not takes(grammar, ids(END_CALL))
    assert not takes(grammar, ids("a", ALONE))
    assert not takes(grammar, ids("<call>1", CALL))
    assert not takes(grammar, ids("<c", CALL, "1</"))


def test_after_a_special_token_the_rest_of_a_trigger_must_follow():
    form = triggered(["\n<call> f"], [tag("\n<call> fun", const("1"), "</call>!")])
    grammar = compiled(form, SPECIAL)
    assert takes(grammar, ids("a\n", CALL, " fun1", END_CALL, "!"))
    assert not takes(grammar, ids("a", CALL))
    assert not takes(grammar, ids("a\n", CALL, " g"))
    assert takes(grammar, ids("a\n<call> g"))
    assert not takes(grammar, ids("\n", CALL, " fun1", END_CALL))


def test_a_trigger_may_end_inside_a_special_token():
    tags = [tag("<call>x", const("1"), ""), tag("<case>", const("2"), "")]
    grammar = compiled(triggered(["<ca"], tags), SPECIAL)
    assert takes(grammar, ids("a", CALL, "x1b<case>2"))
    assert not takes(grammar, ids("a", CALL, "1"))
    assert not takes(grammar, ids("a<ca", CALL))


def test_free_text_in_a_tag_ends_with_a_special_token():
    form = tag("<call>", ANY, "</call>")
    for grammar in (
        compiled(form, SPECIAL),
        compiled(tag("<call>", {"type": "any_tokens"}, TOKEN_END), SPECIAL),
    ):
        assert takes(grammar, ids(CALL, "any < text", END_CALL))
        assert not takes(grammar, ids(CALL, "any", CALL))
        assert not takes(grammar, ids(CALL, "any", END_CALL, "b"))


TOKEN_END = {"type": "token", "token": "</call>"}


def test_a_token_format_is_that_token_and_no_other_spelling():
    rest = tag({"type": "token", "token": CALL}, regex("[0-9]+"), TOKEN_END)
    grammar = compiled(rest, SPECIAL)
    assert takes(grammar, ids(CALL, "12", END_CALL))
    assert not takes(grammar, ids("<call>12", END_CALL))
    assert not takes(grammar, ids(CALL, "12</call>"))
    form = {"type": "token_triggered_tags", "trigger_tokens": ["<call>"], "tags": [rest]}
    grammar = compiled(form | {"exclude_tokens": [ALONE]}, SPECIAL)
    assert takes(grammar, ids("a<call>", CALL, "1", END_CALL, "b", CALL, "2", END_CALL))
    assert not takes(grammar, ids("a", CALL, "b"))
    form = {"type": "token_dispatch", "rules": [[CALL, const("1")]], "loop": False}
    assert takes(compiled(form, SPECIAL), ids("a", CALL, "1"))
    assert not takes(compiled(form, SPECIAL), ids("a", CALL, "1b"))


def test_forced_leaves_the_choice_of_a_special_token():
    matcher = Matcher(compiled(tag("<call>ab", const("cd"), "</call>"), SPECIAL))
    assert matcher.forced() == b""
    assert matcher.accept(CALL)
    assert matcher.forced() == b"abcd"


# -- how it is written


def test_the_form_before_formats_means_the_same():
    spec = {"type": "structural_tag", "triggers": ["<f="]}
    spec["structures"] = [
        {"begin": "<f=a>", "schema": RECORD, "end": "</f>"},
        {"begin": "<f=b>", "schema": json.dumps(RECORD), "end": "</f>"},
    ]
    matcher = Matcher(compile_grammar(StructuralTagSpec(json.dumps(spec)), VOCABULARY))
    assert matcher.accept_text(b'so <f=a>{"x":1}</f> and <f=b>{"x": "</f>"}</f>.')
    assert matcher.is_complete
    assert not matcher.accept_text(b'<f=b>{"y"')


SERVED = "is not served"


@pytest.mark.parametrize(
    ("form", "pointer", "why"),
    [
        ({"type": "magic"}, "/type", SERVED),
        ({"value": "a"}, "", "has no 'type'"),
        (const(1), "/value", "not a string"),
        (const("a") | {"extra": 1}, "/extra", "no such field"),
        (const("<eos>"), "/value", "end-of-sequence"),
        (ANY | {"max_tokens": 5}, "/max_tokens", SERVED),
        (ANY | {"max_chars": 5}, "/max_chars", SERVED),
        (ANY | {"excludes": [""]}, "/excludes/0", "one character"),
        ({"type": "sequence", "elements": []}, "/elements", "empty"),
        ({"type": "sequence", "elements": [ANY, 3]}, "/elements/1", "not an object"),
        (triggered([], [tag("a", ANY, "b")]), "/triggers", "empty"),
        (triggered(["<"], [tag("a", ANY, "b")]), "/tags/0/begin", "0 of the triggers"),
        (triggered(["<", "<a"], [tag("<a", ANY, "b")]), "/tags/0/begin", "2 of the triggers"),
        (triggered(["<", "a"], [tag("<a", ANY, "b")]), "/triggers/1", "no tag begins"),
        (triggered(["<a"], [tag("<a", ANY, "b")], excludes=["<"]), "", "never be met"),
        (tag("<", triggered(["a"], [tag("a", ANY, "b")]), "a"), "/content", "never be met"),
        (tag("<", ANY, []), "/end", "empty"),
        (tag("<", ANY, ["a", ""]), "/end/1", "one character"),
        (tag("<", ANY, {"type": "token", "token": 999}), "/end/token", "there are"),
        ({"type": "star", "content": ANY}, "/content", "may be empty"),
        ({"type": "repeat", "min": 2, "max": 1, "content": const("a")}, "/max", "min <= max"),
        (regex("a("), "/pattern", "regex"),
        (tag("a", regex("(?<=a)b\\1"), "b"), "/content/pattern", "regex"),
        ({"type": "grammar", "grammar": 'root ::= "a" root'}, "/grammar", "root"),
        ({"type": "json_schema", "json_schema": {"not": 3}}, "/json_schema/not", "schema"),
        ({"type": "json_schema", "json_schema": {}, "style": "qwen_xml"}, "/style", SERVED),
    ],
)
def test_faults_are_named_by_their_place(form, pointer, why):
    with pytest.raises(GrammarError, match=why) as caught:
        compiled(form, SPECIAL)
    assert caught.value.pointer == "/format" + pointer


def test_text_that_is_no_structural_tag_is_an_error():
    for text, why in (
        ("{", "not JSON"),
        ('{"type": "structural_tag"}', "no 'format'"),
        ('{"format": {"type": "any_text"}}', "no 'type'"),
        ("[" * 100_000, "deep"),
        ('{"type": "structural_tag", "format": {"type": "const_string", "value": NaN}}', "NaN"),
    ):
        with pytest.raises(GrammarError, match=why):
            compile_grammar(StructuralTagSpec(text), VOCABULARY)


def test_formats_may_nest_only_so_deep():
    form = const("a")
    for _ in range(300):
        form = {"type": "optional", "content": form}
    with pytest.raises(GrammarError, match="deep"):
        compiled(form)


@pytest.mark.parametrize("row", rows("format"), ids=lambda row: row[0])
def test_every_format_holds_as_the_page_states(row):
    kind, _, example, fits, does_not = row
    form = json.loads(code(example)[0].replace("\\|", "|"))
    assert code(kind)[0] in json.dumps(form)
    grammar = compiled(form)
    assert [text for text in code(fits) if not accepts(grammar, text)] == []
    assert [text for text in code(does_not) if accepts(grammar, text)] == []


def test_the_page_lists_every_format():
    with pytest.raises(GrammarError, match="these are") as caught:
        compiled({"type": "none"})
    served = caught.value.message.partition("these are: ")[2].split(", ")
    assert sorted(code(kind)[0] for kind, *_ in rows("format")) == served


@draws(2_000, 100)
@given(seed=st.integers(0, 2**32))
def test_what_a_trigger_begins_is_finished_in_time(seed):
    try:
        grammar = compiled(random_format(random.Random(seed), 2))
    except GrammarError:
        return
    check_tight(grammar, seed)


@pytest.mark.parametrize(
    ("form", "why"),
    [
        ({"type": "sequence", "elements": [ANY] * 200}, "in a row"),
        ({"type": "sequence", "elements": [{"type": "optional", "content": ANY}] * 99}, "in a row"),
        (triggered(["<" * 1_000_000], [tag("<" * 1_000_000, ANY, ">")]), "1000000 bytes"),
        (ANY | {"excludes": [f"<{number}>" for number in range(4000)]}, "4000 triggers"),
        (ANY | {"excludes": [chr(0x80 + low) for low in range(64)]}, "beyond ASCII"),
    ],
    ids=["texts", "optional", "trigger", "excludes", "characters"],
)
def test_what_would_take_too_long_is_refused(form, why):
    with pytest.raises(GrammarError, match=why) as caught:
        compiled(form)
    assert caught.value.code == "grammar_too_complex"


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (
            triggered(["<f="], [tag(f"<f={n}>", const("x"), "</f>") for n in range(500)]),
            "a<f=7>x</f>",
        ),
        (const("ab" * 20_000), "ab" * 20_000),
        ({"type": "repeat", "min": 10**9, "max": 10**9, "content": const("a")}, None),
    ],
    ids=["tags", "text", "repeat"],
)
def test_what_is_large_is_served(form, text):
    grammar = compiled(form)
    if text is not None:
        assert accepts(grammar, text)


def test_masks_tell_apart_triggers_of_text_that_others_follow():
    rules = [[mark, ANY] for mark in ("<", "a", "b", "f", "x")]
    form = {"type": "dispatch", "rules": rules, "loop": False}
    matcher = Matcher(compiled({"type": "sequence", "elements": [form, const("z")]}))
    for byte in b"qa<":
        assert allowed(matcher) == brute_force(matcher)
        assert matcher.accept(byte)
