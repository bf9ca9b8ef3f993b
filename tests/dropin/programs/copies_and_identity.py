"""What is a copy and what is the same object: copy, deepcopy, equality, hashes, text."""

import copy
import json
import pickle
from multiprocessing import Manager

if __name__ == "__main__":
    with Manager() as manager:
        table = manager.dict(a=[1])
        again = copy.copy(table)
        plain = copy.deepcopy(table)
        again["b"] = 2
        plain["c"] = 3
        print(type(again).__name__, type(plain).__name__, table, plain)
        print(
            table == {"a": [1], "b": 2}, table == table, table == again, hash(table) == hash(table)
        )
        print(isinstance(table, dict), dict(table), {**table}, json.dumps(table.copy()))
        print(repr(table).startswith("<DictProxy object, typeid 'dict' at 0x"), str(table))
        print(repr(manager.list())[:37], repr(manager.Queue())[:45])
        a_list = manager.list([table])
        a_list.append(a_list)
        a_list[0]["d"] = 4
        print(table["d"], len(a_list[1]), type(a_list[1]).__name__)
        try:
            pickle.dumps(manager)
        except TypeError as error:
            print("TypeError:", error)
        print(table.popitem(), table.setdefault("e", 5), table.get("nothing"))
        try:
            table["nothing"]
        except KeyError as error:
            print("KeyError:", error)
        try:
            table.no_such_method()
        except AttributeError as error:
            print("AttributeError:", error)
