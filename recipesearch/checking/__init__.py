"""Check: from a plan to parents, space and sampler, before any heavy work. Light, its lazy imports aside.

preflight.py     the checked plan
alignment.py     what recipes and the live model share: a vocabulary, a donor
shapes.py        a parent's shapes, whether or not its files exist yet
members.py       parents that are members of an earlier era's front
closed_eras.py   eras that may no longer change
estimate.py      the counts, memory and disk that a study needs
"""
