"""The official clients as judges of the gateway's verdicts on definitions.

Reads the rows of `proxy/src/catalog/definition/cases.json`, which the unit tests of `proxy` hold the gateway to,
and gives each definition that the gateway lists, as it lists it, to the TypeScript SDK 1.32, the TypeScript client
2.4 and the Python SDK 2.3, each in a list of its own. The first argument is the directory that `.ci/clients` has
filled; further arguments are Python interpreters with other releases of `mcp`. Prints each definition that a client
refuses, and exits with 1 then. With `--all` it also prints what clients say of the other rows.
"""

import json
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
CASES = HERE.parent.parent / "proxy/src/catalog/definition/cases.json"
REVISIONS = {"legacy": "2025-11-25", "modern": "2026-07-28"}
# Members that a list result of the modern era has besides.
CACHE_HINTS = '"resultType":"complete","ttlMs":0,"cacheScope":"private",'
METHODS = {
    "tools": "tools/list", "resources": "resources/list", "resourceTemplates": "resources/templates/list",
    "prompts": "prompts/list",
}


def raw(line, member):
    """The JSON text of a member of a row, as it is written."""
    start = line.find(f'"{member}":')
    if start < 0:
        return None
    start += len(member) + 3
    return line[start:json.JSONDecoder().raw_decode(line, start)[1]]


def rows():
    for line in CASES.read_text().splitlines():
        if line.startswith("{"):
            row = json.loads(line.rstrip(","))
            eras = [row["era"]] if "era" in row else list(REVISIONS)
            yield {"kind": row["kind"], "eras": eras, "item": raw(line, "item"),
                   "repaired": raw(line, "repaired"), "left_out": row.get("left_out")}


def views(kind, era, item):
    """The list results that clients of each era get: the bridge takes an output schema that is not about an object
    away from legacy clients."""
    legacy = item
    if kind == "tools" and era == "modern":
        tool = json.loads(item)
        if isinstance(tool, dict) and "outputSchema" in tool and tool["outputSchema"].get("type") != "object":
            del tool["outputSchema"]
            legacy = json.dumps(tool)
    return {"kind": kind, "legacy": f'{{"{kind}":[{legacy}]}}', "modern": f'{{{CACHE_HINTS}"{kind}":[{item}]}}'}


def asked(command, questions):
    """Asks a judge about all lists at once; its answers, a line for each."""
    text = "".join(json.dumps(question) + "\n" for question in questions)
    answers = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    lines = answers.stdout.splitlines()
    if len(lines) != len(questions):
        sys.exit(f"{command} answered {len(lines)} of {len(questions)}:\n{answers.stderr[-3000:]}")
    return [json.loads(line) for line in lines]


def compile_schema(schema):
    """Does what the Python SDK does with an output schema at a call, but for the syntax of regular expressions:
    those of JSON Schema are ECMAScript's, and the SDK wants Python's."""
    from jsonschema import FormatChecker
    from jsonschema.validators import validator_for
    from referencing import Registry

    validator = validator_for(schema)
    validator.check_schema(schema, format_checker=FormatChecker(formats=()))
    list(validator(schema, registry=Registry()).iter_errors({"x": {}, "a": {}}))


def parsed(kind, era, text):
    """Reads a list result as the installed Python SDK does."""
    answer = f'{{"jsonrpc":"2.0","id":1,"result":{text}}}'
    try:
        from mcp_types import jsonrpc, methods
    except ModuleNotFoundError:
        from mcp import types

        name = kind[0].upper() + kind[1:]
        message = types.JSONRPCMessage.model_validate_json(answer).root
        return getattr(types, f"List{name}Result").model_validate(message.result)
    message = jsonrpc.jsonrpc_message_adapter.validate_json(answer, by_name=False)
    result = methods.parse_server_result(METHODS[kind], REVISIONS[era], message.result)
    if kind == "tools":
        from mcp.shared.inbound import find_invalid_x_mcp_header

        find_invalid_x_mcp_header(result.tools[0].input_schema)
    return result


def judge():
    """Answers for the Python SDK of this interpreter."""
    from importlib.metadata import version

    release = version("mcp")
    for line in sys.stdin:
        question, found = json.loads(line), {}
        for era in REVISIONS if release >= "2" else ["legacy"]:
            try:
                result = parsed(question["kind"], era, question[era])
                schema = getattr(result.tools[0], "output_schema", None) if question["kind"] == "tools" else None
                if schema is not None:
                    compile_schema(schema)
                found[f"mcp {release} {era}"] = None
            except Exception as error:
                found[f"mcp {release} {era}"] = " ".join(f"{type(error).__name__}: {error}".split())
        print(json.dumps(found))


def main(cache, others, everything):
    cases = [(row, era) for row in rows() for era in row["eras"]]
    questions = [views(row["kind"], era, row["repaired"] or row["item"]) for row, era in cases
                 if row["left_out"] is None]
    script = cache / "definitions.mjs"
    shutil.copy(HERE / script.name, script)
    node = [str(cache / "node_modules/.bin/node"), str(script)]
    judges = [node] + [[str(python), __file__, "--judge"] for python in [cache / "python/bin/python3", *others]]
    passed = [(row, era) for row, era in cases if row["left_out"] is None]
    refused = 0
    for command in judges:
        for (row, era), found in zip(passed, asked(command, questions), strict=True):
            for client, why in found.items():
                if why is not None:
                    refused += 1
                    print(f"| {client} | {row['kind']}, {era} server | `{row['repaired'] or row['item']}` | {why[:300]} |")
    print(f"{len(passed)} definitions are listed, {refused} times a client refuses one")
    if everything:
        tell_others([(row, era) for row, era in cases if row["left_out"] is not None or row["repaired"]], judges)
    return 1 if refused else 0


def tell_others(cases, judges):
    """Prints who would refuse the definitions that the gateway leaves out or repairs."""
    questions = [{"kind": row["kind"], "legacy": f'{{"{row["kind"]}":[{row["item"]}]}}',
                  "modern": f'{{{CACHE_HINTS}"{row["kind"]}":[{row["item"]}]}}'} for row, _ in cases]
    answers = [asked(command, questions) for command in judges]
    for (row, era), *found in zip(cases, *answers, strict=True):
        refusing = [client for one in found for client, why in one.items() if why is not None]
        verdict = row["left_out"] or "repaired"
        print(f"| {row['kind']}, {era} server | `{row['item'][:150]}` | {verdict} | {', '.join(refusing) or 'nobody'} |")


if __name__ == "__main__":
    arguments = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
    if "--judge" in sys.argv:
        judge()
    else:
        sys.exit(main(pathlib.Path(arguments[0]), arguments[1:], "--all" in sys.argv))
