"""A shared dict of shared dicts and lists: children change the inner ones in place."""

import multiprocessing


def work(user, users):
    users[user]["visits"] += 1
    users[user]["pages"].append(f"/{user}")
    users[user]["pages"].extend(["/a", "/b"])


if __name__ == "__main__":
    manager = multiprocessing.Manager()
    users = manager.dict()
    for user in ("ann", "bob"):
        users[user] = manager.dict(visits=0, pages=manager.list())
    for _ in range(3):
        workers = [
            multiprocessing.Process(target=work, args=(user, users)) for user in ("ann", "bob")
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    for user, record in sorted(users.items()):
        print(user, record["visits"], list(record["pages"]), len(record["pages"]))
    inner = users["ann"]
    del users["ann"]
    inner["visits"] = "still here"
    print(inner["visits"], "ann" in users, type(inner).__name__, users.keys())
