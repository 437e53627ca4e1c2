"""`make soak`: ptunnel for an hour among everything that goes wrong, and what it has kept of it.

    make soak                      an hour, at 50 connections a second
    make soak SECONDS=60           the short form, as CI runs it
    make soak SEED=7               the same faults as another run with that seed

Two services run at the same time: one process, which splices in the kernel, and two workers, which
splice by producers. Each has a tunnel through a plain proxy, one over TLS, with Basic and with
Digest authentication, with a second proxy behind one that comes and goes, without a proxy, through
one whose name hangs in the resolver, and through one that answers wrong in every way.

    faults    what is done to the processes: stopped, clock set, log not read, worker killed
    peers     clients, proxies and targets, most of which misbehave
    process   ptunnel as a program: started, asked, measured by /proc
    shim.c    the clock and the resolver that it meets
    inside    what it answers from within

Beside the faults a client a second goes through each tunnel that is well, and must be answered
right. At the end nobody is connected, and descriptors, timers and memory must be as they were when
the first part of the run was over. The exit code is 0 where all of that holds, else 1.
"""
