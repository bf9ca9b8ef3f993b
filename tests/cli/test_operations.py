"""Tests of the operation table: the checked-in file is what the declarations say."""

import json

from aiomanager.cli.operations import table
from aiomanager.objects import TYPES
from aiomanager.sessions.store import Manager

from .helpers import ROOT, Terminal

FILE = ROOT / "protocol" / "operations.json"


def test_the_file_is_up_to_date() -> None:
    assert FILE.read_text(encoding="utf-8") == table() + "\n", (
        "the declared operations are not those of protocol/operations.json; rewrite it with\n"
        "    python -m aiomanager operations > protocol/operations.json\n"
        "and look at what changes: clients in other languages rely on it"
    )


def test_the_command_prints_the_table(terminal: Terminal) -> None:
    assert terminal.call("operations") == (0, table() + "\n", "")


def test_the_order_is_that_of_the_declarations() -> None:
    types = json.loads(table())["types"]
    assert [kind["name"] for kind in types] == [kind.type_name for kind in (Manager, *TYPES)]
    for kind, shared in zip(types, (Manager, *TYPES), strict=True):
        assert [one["name"] for one in kind["operations"]] == list(shared.operations)


def test_what_is_said_of_an_operation() -> None:
    types = {kind["name"]: kind for kind in json.loads(table())["types"]}
    assert types["manager"]["object_id"] == 0
    assert "parameters" not in types["manager"]
    assert "object_id" not in types["dict"]
    operations = {one["name"]: one for one in types["dict"]["operations"]}
    assert operations["increment"] == {
        "name": "increment",
        "kind": "writes",
        "parameters": [
            {"name": "key", "shape": "key", "required": True},
            {"name": "amount", "shape": "number", "required": False, "default": 1},
        ],
        "result": "value",
        "doc": operations["increment"]["doc"],
    }
    assert operations["increment"]["doc"].startswith("Add `amount`")
    assert operations["get"]["kind"] == "reads"
    assert {one["name"]: one["kind"] for one in types["Queue"]["operations"]}["get"] == "consumes"
    locks = {one["name"]: one["kind"] for one in types["Lock"]["operations"]}
    assert (locks["acquire_fenced"], locks["release"]) == ("acquires", "owned")


def test_types_of_users(terminal: Terminal) -> None:
    code, output, _ = terminal.call("operations", "--types", "counters:Counter")
    assert code == 0
    last = json.loads(output)["types"][-1]
    assert last["name"] == "Counter"
    assert last["doc"] == "A number that only rises."
    assert [one["name"] for one in last["operations"]] == ["add"]
