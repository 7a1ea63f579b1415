"""Workers: processes with one live engine each. The process is the unit of failure.

order.py           WorkerOrder, everything that a worker needs; Scoring, the interface of every worker
worker.py          Worker: an engine and the tasks' requests, in any process
instant.py         a worker without a model, for tests, dry runs and simulations
worker_process.py  runs a Worker in a process of its own: recipes in, scores out, over one socket
supervisor.py      Supervised: starts and restarts the process; deadlines, named causes of failure
worker_pool.py     WorkerPool: several workers for one runner, each in a thread
slots.py           the places of a pool's workers on this machine: GPUs, shares of the threads
ray_cluster.py     workers as actors on the machines of a Ray cluster
group.py           a process group for one process: start, messages, end; causes of death
guard.py           leads the process group, and ends the group when the supervisor ends
remains.py         ends process groups, and removes leftover processes and shared memory
"""
