"""What a shared list can do: it is changed in place, read by slices, sorted and joined."""

import multiprocessing


def change(words):
    words += ["d", "c"]
    words.insert(0, "z")
    words.remove("b")
    words[1] = words[1].upper()


if __name__ == "__main__":
    with multiprocessing.Manager() as manager:
        words = manager.list("ab")
        process = multiprocessing.Process(target=change, args=(words,))
        process.start()
        process.join()
        print(words, len(words), words[1:], words[-1], "c" in words, words.index("d"))
        words.sort()
        words.reverse()
        print(list(words), words.count("z"), words + list("x"), words * 2)
        words *= 2
        del words[0]
        print(words.pop(), words.pop(0), list(reversed(words)))
        for bad in (lambda: words[99], lambda: words.remove("q"), lambda: words.index("q")):
            try:
                bad()
            except (IndexError, ValueError) as error:
                print(type(error).__name__)
        words[1:3] = "xyz"
        print(words, str(words) == repr(list(words)), type(words).__name__)
        rows = manager.list([[0] * 2 for _ in range(2)])
        rows[0][0] = 1
        row = rows[0]
        row[0] = 1
        rows[0] = row
        print(rows)
