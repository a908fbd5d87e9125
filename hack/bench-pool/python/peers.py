"""A contestant that is a pool of Python's own world, with its callers in the same process, as its users have them.

usage: peers.py NAME WORKERS PAYLOADS

Speaks the protocol of package contestant: one answer when it is ready, then one for each order, a line of JSON each.
"""

import bisect
import json
import multiprocessing
import os
import queue
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import chain

from bench_handlers import BY_NAME

FEWEST = 3  # calls that each caller makes, however little time there is
BATCH = 1024  # inputs of one map


class Executor:
    """concurrent.futures.ProcessPoolExecutor: submit, wait for the result."""

    def __init__(self, workers):
        self.pool = self.make(workers)

    def make(self, workers):
        return ProcessPoolExecutor(workers)

    def call(self, function, value):
        return self.pool.submit(function, value).result()

    def close(self):
        self.pool.shutdown()


class Loky(Executor):
    """loky's executor."""

    def make(self, workers):
        import loky

        return loky.ProcessPoolExecutor(workers)


class ApplyAsync:
    """multiprocessing.Pool: apply_async, get."""

    def __init__(self, workers):
        self.pool = multiprocessing.Pool(workers)

    def call(self, function, value):
        return self.pool.apply_async(function, (value,)).get()

    def close(self):
        self.pool.terminate()
        self.pool.join()


class Map(ApplyAsync):
    """multiprocessing.Pool: map of a batch, in the chunks that it chooses itself. A call is a batch."""

    def __init__(self, workers):
        super().__init__(workers)
        self.value, self.batch = None, []

    def call(self, function, value):
        if value is not self.value:  # equal inputs, but no object twice: pickle would send it once
            text = json.dumps(value)
            self.value, self.batch = value, [json.loads(text) for _ in range(BATCH)]
        return self.pool.map(function, self.batch)[-1]


class Pipes:
    """What one writes by hand: a process and a multiprocessing.Pipe for each worker, and a queue of those idle."""

    def __init__(self, workers):
        self.idle = queue.SimpleQueue()
        self.processes = []
        for _ in range(workers):
            ours, theirs = multiprocessing.Pipe()
            process = multiprocessing.Process(target=self.serve, args=(theirs,), daemon=True)
            process.start()
            theirs.close()
            self.processes.append(process)
            self.idle.put(ours)

    @staticmethod
    def serve(connection):
        while True:
            name, value = connection.recv()
            connection.send(BY_NAME[name](value))

    def call(self, function, value):
        connection = self.idle.get()
        connection.send((function.__name__, value))
        result = connection.recv()
        self.idle.put(connection)
        return result

    def close(self):
        for process in self.processes:
            process.terminate()
            process.join()


class Ray:
    """Ray: an actor for each worker, and a queue of those idle."""

    def __init__(self, workers):
        import ray

        ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level="error")
        self.ray = ray

        @ray.remote(num_cpus=0)
        class Actor:
            def run(self, name, value):
                return BY_NAME[name](value)

        self.idle = queue.SimpleQueue()
        for actor in [Actor.remote() for _ in range(workers)]:
            ray.get(actor.run.remote("echo", None))
            self.idle.put(actor)

    def call(self, function, value):
        actor = self.idle.get()
        result = self.ray.get(actor.run.remote(function.__name__, value))
        self.idle.put(actor)
        return result

    def close(self):
        self.ray.shutdown()


PEERS = {"executor": Executor, "loky": Loky, "mp-apply": ApplyAsync, "mp-map": Map, "mp-pipe": Pipes, "ray": Ray}


def call_until(start, until, at_least, call, times, ends):
    begin = start
    while begin < until or len(times) < at_least:
        call()
        end = time.perf_counter_ns()
        times.append(end - begin)
        ends.append(end - start)
        begin = end


def loop(callers, workers, at_least, length, call):
    """As loop in contestant/loop.go: returns the calls' times, in order, and calls a second."""
    times, ends = [[] for _ in range(callers)], [[] for _ in range(callers)]
    failed = []

    def caller(own):
        try:
            call_until(start, start + length, at_least, call, times[own], ends[own])
        except BaseException as error:  # noqa: BLE001 - the round fails with the first
            failed.append(error)

    start = time.perf_counter_ns()
    if callers == 1:
        caller(0)
    else:
        threads = [threading.Thread(target=caller, args=(own,)) for own in range(callers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if failed:
        raise failed[0]
    stopped = min(own[-1] for own in ends)
    return sorted(chain(*times)), rate(sorted(chain(*ends)), callers, workers, stopped)


def rate(ends, callers, workers, stopped):
    """As rate in contestant/loop.go."""
    beats = (bisect.bisect_right(ends, stopped) - callers) // workers
    if beats > 0:
        begin, end = ends[callers - 1], ends[callers - 1 + beats * workers]
        if end > begin:
            return beats * workers / (end - begin) * 1e9
    return len(ends) / ends[-1] * 1e9


def run(pool, workers, payloads, order):
    with open(os.path.join(payloads, order["size"].replace(" ", "") + ".json"), "rb") as f:
        value = json.load(f)["value"]
    function = BY_NAME[order["command"]]
    if pool.call(function, value) != value:
        raise ValueError("the answer isn't the question")

    def call():
        pool.call(function, value)

    batched = isinstance(pool, Map)
    callers = 1 if batched else order["callers"]
    loop(callers, workers, 1, order["length"] // 10, call)
    times, per_second = loop(callers, workers, FEWEST, order["length"], call)
    per_call = BATCH if batched else 1
    return {
        "count": len(times) * per_call,
        "rate": per_second * per_call,
        "p50": quantile(times, 0.5),
        "p99": quantile(times, 0.99),
    }


def quantile(ordered, q):
    """As quantile in contestant/loop.go."""
    rank = int(q * len(ordered))
    if rank == q * len(ordered):
        rank -= 1
    return ordered[min(max(rank, 0), len(ordered) - 1)]


def main(name, workers, payloads):
    answers = os.fdopen(os.dup(1), "w")  # what libraries print is none
    os.dup2(2, 1)

    def answer(**what):
        print(json.dumps(what), file=answers, flush=True)

    try:
        pool = PEERS[name](int(workers))
    except Exception as error:
        answer(error=f"{type(error).__name__}: {error}")
        raise
    answer()
    for line in sys.stdin:
        try:
            figures = run(pool, int(workers), payloads, json.loads(line))
        except Exception as error:  # noqa: BLE001 - told, and the next order is served
            answer(error=f"{type(error).__name__}: {error}")
        else:
            answer(**figures)
    pool.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
