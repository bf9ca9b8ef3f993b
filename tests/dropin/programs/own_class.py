"""A class of the program's own, shared by BaseManager.register: calls of its methods are remote."""

from multiprocessing import Process
from multiprocessing.managers import BaseManager


class Account:
    """A bank account."""

    def __init__(self, owner, balance=0):
        self.owner = owner
        self._balance = balance

    def deposit(self, amount):
        self._balance += amount
        return self._balance

    def withdraw(self, amount):
        if amount > self._balance:
            raise ValueError(f"{self.owner} has only {self._balance}")
        self._balance -= amount

    def get_balance(self):
        return self._balance

    def _secret(self):
        return "hidden"


class BankManager(BaseManager):
    pass


BankManager.register("Account", Account)


def save(account):
    for _ in range(10):
        account.deposit(5)


if __name__ == "__main__":
    with BankManager() as manager:
        account = manager.Account("ann", balance=100)
        savers = [Process(target=save, args=(account,)) for _ in range(3)]
        for saver in savers:
            saver.start()
        for saver in savers:
            saver.join()
        print(account.get_balance(), account.deposit(amount=1))
        try:
            account.withdraw(1000)
        except ValueError as error:
            print("ValueError:", error)
        print(hasattr(account, "_secret"), hasattr(account, "owner"), type(account).__name__)
        try:
            manager.Account()
        except Exception as error:
            print(type(error).__name__)
