"""An Array of a manager: each process squares its own part."""

import multiprocessing as mp


def square(array, first, last):
    for place in range(first, last):
        array[place] = array[place] ** 2


if __name__ == "__main__":
    with mp.Manager() as manager:
        array = manager.Array("i", range(8))
        floats = manager.Array("d", [0.5] * 3, lock=False)
        parts = [mp.Process(target=square, args=(array, at, at + 4)) for at in (0, 4)]
        for part in parts:
            part.start()
        for part in parts:
            part.join()
        floats[1:] = floats[:2]
        print(array, len(array), array[3], array[-1], array[2:5], list(array), sum(array))
        print(floats)
        try:
            array[0] = "no number"
        except TypeError as error:
            print("TypeError:", error)
        try:
            print(array[100])
        except IndexError as error:
            print("IndexError:", error)
