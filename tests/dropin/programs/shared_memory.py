"""P18: a Value and an Array in shared memory, which are the standard library's own."""

import multiprocessing


def change(number, array):
    number.value = 3.25
    for place in range(len(array)):
        array[place] = -array[place]


number = multiprocessing.Value("d", 0.0)
array = multiprocessing.Array("i", range(10))
process = multiprocessing.Process(target=change, args=(number, array))
process.start()
process.join()
print(number.value)
print(array[:])
