"""Workers: processes with one live engine each. The process is the unit of failure.

goals.py         the plan's objectives and held-out goals as loaded tasks
worker.py        Worker: engine, requests, score(recipe); works in any process
process.py       a Worker as a process: recipes in, scores out, over one socket
supervisor.py    Supervised: the other end; deadlines, named causes, a new process after each loss
group.py         a process group for one process: started, talked to, ended; causes of death
guard.py         the process that a worker's group dies with, whatever happens to the supervisor
remains.py       ends process groups, and removes what they leave: processes, shared memory
"""
