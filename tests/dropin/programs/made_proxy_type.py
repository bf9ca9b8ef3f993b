"""A proxy type by MakeProxyType, and one written by hand with more than it was given."""

from multiprocessing.managers import BaseManager, BaseProxy, MakeProxyType


class Board:
    def __init__(self):
        self.cells = {}

    def get(self, at):
        return self.cells.get(at)

    def put(self, at, what):
        self.cells[at] = what

    def size(self):
        return len(self.cells)


BoardBase = MakeProxyType("BoardBase", ("get", "put", "size"))


class BoardProxy(BoardBase):
    def __len__(self):
        return self.size()

    def __getitem__(self, at):
        return self._callmethod("get", (at,))

    def __setitem__(self, at, what):
        self._callmethod("put", (at, what))


class Games(BaseManager):
    pass


Games.register("Board", Board, BoardProxy)

if __name__ == "__main__":
    with Games() as games:
        board = games.Board()
        board[1, 2] = "x"
        board.put((0, 0), "o")
        print(len(board), board[1, 2], board[9, 9], board.get((0, 0)))
        print(isinstance(board, BaseProxy), isinstance(board._getvalue(), Board))
        print(type(board).__name__, board._exposed_)
