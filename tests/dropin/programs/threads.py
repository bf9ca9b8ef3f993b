"""One manager used by many threads of a process at once."""

import threading
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import Manager


def work(number, table, lock, queue):
    with lock:
        table["total"] += number
    queue.put(threading.current_thread() is not threading.main_thread())
    return table.setdefault(number, str(number))


if __name__ == "__main__":
    manager = Manager()
    table, lock, queue = manager.dict(total=0), manager.Lock(), manager.Queue()
    with ThreadPoolExecutor(8) as executor:
        answers = list(executor.map(lambda number: work(number, table, lock, queue), range(40)))
    print(table["total"], len(table), answers == [str(number) for number in range(40)])
    print(all(queue.get() for _ in range(40)), queue.empty())
    blocked = threading.Thread(target=queue.get)
    blocked.start()
    print(table.pop("total"), len(table))
    queue.put("let it go")
    blocked.join()
    print(queue.qsize())
    manager.shutdown()
