"""A subclass of NamespaceProxy gives access to attributes and properties of a shared object."""

from multiprocessing import Process
from multiprocessing.managers import BaseManager, NamespaceProxy


class Person:
    def __init__(self, name, age):
        self.name = name
        self.age = age

    @property
    def label(self):
        return f"{self.name} ({self.age})"

    def birthday(self, years=1):
        self.age += years
        return self.age


class PersonProxy(NamespaceProxy):
    _exposed_ = ("__getattribute__", "__setattr__", "__delattr__", "birthday")

    def birthday(self, years=1):
        return self._callmethod("birthday", (years,))


class MyManager(BaseManager):
    pass


MyManager.register("Person", Person, PersonProxy)


def change(person):
    person.name = person.name.upper()
    person.birthday(years=10)


if __name__ == "__main__":
    manager = MyManager()
    manager.start()
    person = manager.Person("ann", 30)
    process = Process(target=change, args=(person,))
    process.start()
    process.join()
    print(person.name, person.age, person.label, person.birthday())
    person.town = "Bonn"
    print(person.town)
    del person.town
    try:
        print(person.town)
    except AttributeError as error:
        print("AttributeError:", error)
    manager.shutdown()
