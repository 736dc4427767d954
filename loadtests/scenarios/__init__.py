"""Open-loop scenarios with pass criteria: `python -m loadtests.scenarios NAME`.

Each starts `servekit serve` on a processor of its own, finds its capacity in closed loops, sends load on a schedule,
and judges ratios of one run, which hold on any machine. What the generator itself limited is not judged.
"""
