"""halfwave alone: the same bits for each number of threads, after a fork, under threadpoolctl.

What is compared is a hash, so that one other bit would be told. The ratio is the speed over that on all
threads; more threads than CPUs are among them, and ways of getting there.
"""

import hashlib
import multiprocessing
import os

import numpy as np
import peers
from peers import Job

UNIT = "10⁹ operations/s"
ALL = "all threads"
VARIANTS = {
    "halfwave": (ALL, "1 thread", "2 threads", "3 threads", "after a fork", "under threadpoolctl")
}
REFERENCE = f"halfwave {ALL}"
CASES = {
    name: name
    for name in ("product of 512×1024×768", "convolution @28, forward", "convolution @28, weight",
                 "prelu backward of 2²² floats")
}  # fmt: skip


def kind(case):
    return None


def work(case):
    if "product" in case:
        return 2 * 512 * 1024 * 768
    return 12 << 22 if "prelu" in case else 2 * 4 * 128 * 128 * 9 * 28 * 28


def sample(result):
    return np.frombuffer(hashlib.sha256(result.tobytes()).digest(), np.uint8).astype(np.float32)


def agree(one, other):
    return bool((one == other).all())


def operation(case):
    import halfwave as hw

    if "product" in case:
        a, b, out = peers.array(512, 1024), peers.array(1024, 768), peers.memory(512, 768)
        return lambda: hw.matmul(a, b, out=out)
    if "prelu" in case:
        x, dy = peers.array(64, 1 << 16), peers.array(64, 1 << 16, seed=1)
        alpha, out = np.full(64, 0.25, np.float32), peers.memory(*x.shape)
        return lambda: hw.prelu_backward(dy, x, alpha, axis=0, out=out)[1]
    x, w = peers.array(4, 128, 28, 28), peers.array(128, 128, 3, 3, seed=1)
    if "forward" in case:
        out = peers.memory(*x.shape)
        return lambda: hw.conv2d(x, w, padding=1, out=out)
    dy, out = peers.array(4, 128, 28, 28, seed=2), peers.memory(*w.shape)
    return lambda: hw.conv2d_backward_weight(dy, x, w.shape, padding=1, out=out)


def in_child(connection, run):
    for wanted in iter(connection.recv, None):
        result = run()
        connection.send(result if wanted == "result" else b"")


def halfwave(case, variant):
    import halfwave as hw

    run = operation(case)
    everything = int(os.environ["HALFWAVE_NUM_THREADS"])
    if variant == "after a fork":
        hw.set_num_threads(everything)
        run()  # the pool is awake when the fork happens
        ours, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("fork")
        context.Process(target=in_child, args=(theirs, run), daemon=True).start()

        def ask(wanted):
            ours.send(wanted)
            return ours.recv()

        return Job(lambda: ask("time"), lambda _: ask("result"))
    if variant == "under threadpoolctl":
        try:
            from threadpoolctl import threadpool_limits
        except ImportError:
            return None

        def before():
            hw.set_num_threads(everything)
            threadpool_limits(limits=everything, user_api="halfwave")

        return Job(run, before=before)
    threads = everything if variant == ALL else int(variant.split()[0])

    def before():
        hw.set_num_threads(threads)

    before()
    return Job(run, before=before)
