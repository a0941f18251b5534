"""A broker as the contract suites want it, by its URL."""

from dingo import kombu


class ByURL:
    def __init__(self, url):
        self.url = url

    def producer(self):
        return kombu.producer(self.url)

    def worker(self):
        return kombu.worker(self.url)

    def store(self):
        return kombu.store(self.url)

    def reporter(self):
        return kombu.reporter(self.url)
