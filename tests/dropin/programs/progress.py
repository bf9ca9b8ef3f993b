"""A shared dict of each task's progress, which the parent watches until all are at the end."""

import multiprocessing
import time


def work(task, progress, steps):
    for step in range(1, steps + 1):
        progress[task] = {"step": step, "of": steps}
    return task


if __name__ == "__main__":
    with multiprocessing.Manager() as manager:
        progress = manager.dict()
        with multiprocessing.Pool(2) as pool:
            results = [pool.apply_async(work, (task, progress, 10 + task)) for task in range(4)]
            while not all(result.ready() for result in results):
                now = sum(each["step"] for each in progress.values())
                assert 0 <= now <= 46
                time.sleep(0.005)
        for task, state in sorted(progress.items()):
            print(f"task {task}: {'#' * state['step']} {state['step']}/{state['of']}")
        print(progress.get(99), progress.get(99, "none"), 2 in progress, 99 in progress)
        print(
            progress.pop(0)["of"], sorted(progress.keys()), progress.update({7: 1}), len(progress)
        )
