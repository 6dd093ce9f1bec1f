"""A batch on a Dask cluster (https://distributed.dask.org): the renders of one separation are one task.

Workers must have the same version of gbsep, and see the inputs and the output folder under the same paths, unless these
are URLs. A worker renders one song at a time, however many threads it has. Where workers offer the resource `GPU`,
separations that run on a GPU go only to those. The scheduler gives the task of a lost worker to another one.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import shutil
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import GbsepError, ParameterError, WorkerDied, printable
from ..rendering import RENDERING_VERSION, Given, Outcome, Plan
from ..separation.backend import SEPARATION_VERSION
from ..shelf import remote
from ..version import __version__
from .planning import Batch, separations
from .task import Event, Results, Task, perform, task_of

if TYPE_CHECKING:
    from distributed import Client, Future

VERSION = f"{__version__} ({RENDERING_VERSION}.{SEPARATION_VERSION})"
"""The versions of gbsep, its renders and its separations, which must be the same on every machine."""

CONNECT_S = 10.0

_rendering_lock = threading.Lock()


def render(tasks: Sequence[Task], version: str) -> list[Outcome]:
    """Run by a worker: render tasks that share a separation. Raises GbsepError if its version differs."""
    if version != VERSION:
        raise GbsepError(f"a worker of the cluster has gbsep {VERSION}, not {version}: install the same everywhere")
    shared: dict[str, Given] = {}
    with _rendering_lock:
        return [_perform(task, shared) for task in tasks]


def in_cluster(batch: Batch, address: str, on_event: Callable[[Event], None], stop: threading.Event) -> Results:
    """Render on the cluster at `address`, or for "local" on one that is started for this batch.

    Raises ParameterError when no scheduler or no worker answers, or a worker has another version of gbsep.
    """
    with _connected(address, batch) as client:
        _check_versions(client, address)
        waiting: dict[bool, deque[list[Plan]]] = {True: deque(), False: deque()}
        for plans in separations(plan for plan in batch.plans if plan.action == "render"):
            waiting[_gpus(client) > 0 and _wants_gpu(plans[0])].append(plans)
        yield from _in_turn(client, waiting, batch, on_event, stop)


def _in_turn(
    client: Client,
    waiting: Mapping[bool, deque[list[Plan]]],
    batch: Batch,
    on_event: Callable[[Event], None],
    stop: threading.Event,
) -> Results:
    """Submit only as many tasks as the workers can start, so that little is under way when the batch stops."""
    from distributed import as_completed

    running: dict[Future[Any], tuple[bool, list[Plan]]] = {}
    completed = as_completed(loop=client.loop)

    def submit() -> None:
        for gpu, workers in ((True, _gpus(client)), (False, len(client.nthreads()))):
            room = max(1, workers) - sum(on_gpu == gpu for on_gpu, _ in running.values())
            for plans in [waiting[gpu].popleft() for _ in range(min(room, len(waiting[gpu])))]:
                tasks = [_portable(task_of(plan, batch.destination)) for plan in plans]
                resources = {"GPU": 1} if gpu else None
                future = client.submit(render, tasks, VERSION, pure=False, resources=resources)
                running[future] = (gpu, plans)
                completed.add(future)
                on_event(Event("started", plans[0]))

    try:
        submit()
        for future in completed:
            _, plans = running.pop(future)
            results = list(zip(plans, _results(future, plans, batch), strict=True))
            if not stop.is_set():
                submit()
            yield from results
    finally:
        client.cancel(list(running), force=True)


def _results(future: Future[Any], plans: Sequence[Plan], batch: Batch) -> list[Outcome]:
    from distributed.scheduler import KilledWorker

    try:
        answers = future.result()
        if not (isinstance(answers, list) and all(isinstance(answer, Outcome) for answer in answers)):
            raise WorkerDied("its worker answered with something that is no outcome")
        if len(answers) != len(plans):
            raise WorkerDied(f"its worker answered with {len(answers)} outcomes for {len(plans)} renders")
        return [_with_local_paths(done, plan, batch) for done, plan in zip(answers, plans, strict=True)]
    except KilledWorker as error:
        problem: Exception = WorkerDied(" ".join(str(error).split()))
    except Exception as error:
        problem = error
    return [task_of(plan, batch.destination).failed(problem) for plan in plans]


# The same task on another machine


def _portable(task: Task) -> Task:
    """The task with absolute paths, which mean the same on every machine."""
    options, source = task.options, task.source
    models = options.models and options.models.absolute()
    options = replace(options, out=options.out.absolute(), models=models)
    return replace(task, options=options, source=source.absolute() if isinstance(source, Path) else source)


def _perform(task: Task, shared: dict[str, Given]) -> Outcome:
    """Perform a task; a remote destination gets a stand-in on this machine."""
    perform_here = functools.partial(perform, progress=lambda stage, fraction: None, shared=shared)
    if task.destination is None:
        return perform_here(task)
    home = remote.stand_in_for(task.destination)
    try:
        return perform_here(replace(task, options=replace(task.options, out=home)))
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _with_local_paths(done: Outcome, plan: Plan, batch: Batch) -> Outcome:
    """A worker's outcome, with the paths as the user gave them."""
    outcome: Outcome = replace(done, input=plan.source)
    if outcome.error is not None:
        task = _portable(task_of(plan, batch.destination))
        error = outcome.error.replace(str(task.source), str(plan.source))
        outcome = replace(outcome, error=error.replace(str(task.options.out), str(plan.options.out)))
    if outcome.folder is not None and not batch.destination:
        files = {name: plan.folder / plan.names[name] for name in outcome.files}
        outcome = replace(outcome, folder=plan.folder, files=files)
    return outcome


# The cluster


@contextlib.contextmanager
def _connected(address: str, batch: Batch) -> Iterator[Client]:
    try:
        import dask
        from distributed import Client, LocalCluster
    except ImportError:
        raise ParameterError("cluster", address, "needs Dask: pip install 'gbsep[cluster]'") from None
    count = str(batch.threads)
    environment = {f"{library}_NUM_THREADS": count for library in ("OMP", "OPENBLAS", "MKL")}
    with contextlib.ExitStack() as stack:
        if address == "local":
            settings = {
                "distributed.nanny.pre-spawn-environ": environment,
                "distributed.scheduler.allowed-failures": 1,
            }
            stack.enter_context(dask.config.set(settings))
            cluster = LocalCluster(n_workers=batch.jobs, threads_per_worker=1, dashboard_address=None)
            address = stack.enter_context(cluster).scheduler_address
        try:
            _check_scheduler(address)
            client = stack.enter_context(Client(address, timeout=CONNECT_S, set_as_default=False))
        except Exception as error:  # what answers there may say anything
            reason = printable(str(error)) or f"not within {CONNECT_S:g} s"
            allowed = f"no scheduler answers there ({reason}); start one with: dask scheduler"
            raise ParameterError("cluster", address, allowed) from None
        yield client


def _check_scheduler(address: str) -> None:
    """Raise an exception unless a scheduler answers in time: Dask's client waits forever for a silent one.

    In a thread of its own, as this one may already run an event loop.
    """
    from distributed.core import rpc
    from distributed.security import Security

    async def ask() -> None:
        async with rpc(address, connection_args=Security().get_connection_args("client")) as scheduler:
            answer = await asyncio.wait_for(scheduler.identity(), CONNECT_S)
        if not isinstance(answer, Mapping) or answer.get("type") != "Scheduler":
            raise ValueError("it is no scheduler")

    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, ask()).result()


def _check_versions(client: Client, address: str) -> None:
    try:
        client.wait_for_workers(1, timeout=CONNECT_S)
    except TimeoutError:
        allowed = f"it has no worker; start one with: dask worker {address}"
        raise ParameterError("cluster", address, allowed) from None
    for worker, version in client.run(_version, on_error="return").items():
        if version != VERSION:
            found = f"cannot import it ({version})" if isinstance(version, Exception) else f"has {version}"
            raise ParameterError("cluster", address, f"gbsep must be {VERSION} everywhere, and {worker} {found}")


def _version() -> str:
    return VERSION


def _gpus(client: Client) -> int:
    """How many GPUs the workers offer, as in `dask worker --resources GPU=1`."""
    workers: Mapping[str, Any] = client.scheduler_info()["workers"]
    return sum(int(worker["resources"].get("GPU", 0)) for worker in workers.values())


def _wants_gpu(plan: Plan) -> bool:
    """Whether the separation runs on a GPU where there is one: a network's, unless another device was chosen."""
    return "device" in plan.separation.identity and plan.options.device in ("auto", "cuda")
