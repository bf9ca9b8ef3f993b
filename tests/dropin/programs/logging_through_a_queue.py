"""Workers log into a manager's queue; a listener in the parent writes it all."""

import logging
import logging.handlers
import multiprocessing


class Collect(logging.Handler):
    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(self.format(record))


def work(queue, number):
    logger = logging.getLogger(f"worker.{number}")
    logger.handlers = [logging.handlers.QueueHandler(queue)]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.info("number %d of %s", number, ["a", "list"])
    logger.debug("nobody reads this")
    try:
        raise KeyError(number)
    except KeyError:
        logger.exception("it failed")


if __name__ == "__main__":
    with multiprocessing.Manager() as manager:
        queue, collect = manager.Queue(-1), Collect()
        collect.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))
        listener = logging.handlers.QueueListener(queue, collect)
        listener.start()
        with multiprocessing.Pool(2) as pool:
            pool.starmap(work, [(queue, number) for number in range(3)])
        listener.stop()
        for line in sorted(collect.lines):
            print(line.splitlines()[0], len(line.splitlines()) > 1, line.splitlines()[-1])
