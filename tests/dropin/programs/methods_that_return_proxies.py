"""`method_to_typeid`: what a method returns stays in the server, and the caller gets a proxy."""

from multiprocessing.managers import BaseManager, BaseProxy, DictProxy


class Row:
    def __init__(self, name):
        self.name = name
        self.cells = []

    def add(self, cell):
        self.cells.append(cell)
        return len(self.cells)

    def show(self):
        return self.name, self.cells


class Sheet:
    def __init__(self):
        self.rows = {}

    def row(self, name):
        return self.rows.setdefault(name, Row(name))

    def totals(self):
        return {name: sum(row.cells) for name, row in self.rows.items()}

    def numbers(self):
        yield from range(4)


class Iterating(BaseProxy):
    _exposed_ = ("__next__",)

    def __iter__(self):
        return self

    def __next__(self):
        return self._callmethod("__next__")


class Sheets(BaseManager):
    pass


Sheets.register(
    "Sheet", Sheet, method_to_typeid={"row": "Row", "totals": "dict", "numbers": "Iterator"}
)
Sheets.register("Row", create_method=False)
Sheets.register("dict", proxytype=DictProxy, create_method=False)
Sheets.register("Iterator", proxytype=Iterating, create_method=False)

if __name__ == "__main__":
    with Sheets() as manager:
        sheet = manager.Sheet()
        row = sheet.row("one")
        print(row.add(1), row.add(2), sheet.row("one").add(3), row.show()[1])
        totals = sheet.totals()
        print(type(totals).__name__, totals["one"], hasattr(manager, "Row"))
        print(list(sheet.numbers()), type(row).__name__)
