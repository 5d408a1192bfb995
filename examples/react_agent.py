"""A ReAct agent: the model thinks and picks an action, Python does it, the model goes on."""

import ast
import operator

import ramify
from ramify import gen, select

POPULATION = {"Austria": 9, "France": 68, "Germany": 84, "Italy": 59, "Norway": 6, "Sweden": 11}
ACTIONS = [" lookup", " calculate", " answer"]
MAX_STEPS = 6


def lookup(country):
    if country not in POPULATION:
        return f"unknown country; known are {', '.join(POPULATION)}"
    return f"{country} has {POPULATION[country]} million people."


def calculate(expression):
    """The value of a sum, difference, product or quotient of two numbers."""
    operators = {ast.Add: operator.add, ast.Sub: operator.sub}
    operators |= {ast.Mult: operator.mul, ast.Div: operator.truediv}
    match ast.parse(expression, mode="eval").body:
        case ast.BinOp(ast.Constant(left), operation, ast.Constant(right)):
            return str(operators[type(operation)](left, right))
    return "not two numbers with +, -, * or / between them"


def solved(first, first_people, second, second_people):
    """A finished run of the agent, as an example."""
    total = first_people + second_people
    return f"""\
Question: How many million people live in {first} and {second} together?
Thought: I must look up {first}.
Action: lookup {first}
Observation: {first} has {first_people} million people.
Thought: I must look up {second}.
Action: lookup {second}
Observation: {second} has {second_people} million people.
Thought: I must add {first_people} and {second_people}.
Action: calculate {first_people} + {second_people}
Observation: {total}
Thought: I know the answer.
Action: answer {first} and {second} have {total} million people together.

"""


EXAMPLES = solved("Spain", 48, "Portugal", 10) + solved("Japan", 124, "Korea", 52)
EXAMPLES += solved("Egypt", 112, "Sudan", 48)


@ramify.function
def agent(s, question):
    s += EXAMPLES + f"Question: {question}\n"
    for step in range(MAX_STEPS):
        s += "Thought:" + gen(f"thought {step}", max_tokens=24, stop="\n") + "\n"
        s += "Action:" + select(f"action {step}", ACTIONS)
        s += gen(f"input {step}", max_tokens=32, stop="\n") + "\n"
        action, argument = s[f"action {step}"].strip(), s[f"input {step}"].strip()
        if action == "answer":
            s["answer"] = argument
            return
        tool = lookup if action == "lookup" else calculate
        s += f"Observation: {tool(argument)}\n"
    s["answer"] = f"no answer after {MAX_STEPS} steps"


def main(question="How many million people live in Norway and Sweden together?"):
    state = agent.run(question, temperature=0)
    print(f"Question: {question}")
    print(state.text().rpartition(f"Question: {question}\n")[2].strip())


if __name__ == "__main__":
    ramify.set_default_backend(ramify.backend_from_env())
    main()
