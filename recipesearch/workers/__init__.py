"""Workers: processes with one live engine each. The process is the unit of failure.

order.py           WorkerOrder, everything that a worker needs; and what every worker offers
worker.py          Worker: an engine and the tasks' requests, in any process
instant.py         a worker without a model, for tests, dry runs and simulations
worker_process.py  a Worker as a process: recipes in, scores out, over one socket
supervisor.py      Supervised: the other end; deadlines, named causes, a new process after each loss
group.py           a process group for one process: started, talked to, ended; causes of death
guard.py           the process that a worker's group dies with, however the supervisor ends
remains.py         ends process groups and removes what they leave: processes, shared memory
"""
