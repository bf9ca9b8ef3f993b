"""P19: a shared value and a shared list in a child; both are shown as what they hold."""

import multiprocessing


def change(number, words):
    number.value = 3.25
    words.append("from the child")


server = multiprocessing.Manager()
number = server.Value("d", 0.0)
words = server.list()
process = multiprocessing.Process(target=change, args=(number, words))
process.start()
process.join()
print(number.value, number)
print(words, words[:], words[0])
