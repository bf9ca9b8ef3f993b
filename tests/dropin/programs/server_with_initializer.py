"""The server's initializer prepares what its objects use."""

from multiprocessing.managers import BaseManager

settings = {}


def prepare(name, *more):
    settings.update(name=name, more=more)


class Service:
    def about(self):
        return settings


class ServiceManager(BaseManager):
    pass


ServiceManager.register("Service", Service)
ServiceManager.register("about", Service().about)

if __name__ == "__main__":
    manager = ServiceManager()
    try:
        manager.start("not callable")
    except TypeError as error:
        print("TypeError:", error)
    manager = ServiceManager()
    manager.start(prepare, ("service", 1, 2))
    print(manager.Service().about(), settings)
    try:
        manager.start()
    except Exception as error:
        print(type(error).__name__, error)
    manager.shutdown()
    manager.shutdown()
    print(manager._process.exitcode, manager._process.is_alive())
    manager.join()
