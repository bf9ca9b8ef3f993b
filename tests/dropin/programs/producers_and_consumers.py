"""Producers and consumers over a bounded queue; a None for each consumer says that all is done."""

from multiprocessing import Manager, Process


def produce(queue, first):
    for number in range(first, first + 20):
        queue.put(number)


def consume(queue, results):
    total = 0
    while True:
        item = queue.get()
        if item is None:
            break
        total += item
    results.put(total)


if __name__ == "__main__":
    with Manager() as manager:
        queue, results = manager.Queue(maxsize=5), manager.Queue()
        producers = [Process(target=produce, args=(queue, first)) for first in (0, 100)]
        consumers = [Process(target=consume, args=(queue, results)) for _ in range(3)]
        for process in producers + consumers:
            process.start()
        for producer in producers:
            producer.join()
        for _ in consumers:
            queue.put(None)
        for consumer in consumers:
            consumer.join()
        print(sum(results.get() for _ in consumers), results.empty(), queue.qsize(), queue.full())
