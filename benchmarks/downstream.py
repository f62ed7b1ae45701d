#!/usr/bin/env python
"""Does a lesion network of the target site segment harmonized scans better than raw ones? On simulated patients.

Everything here is simulated, at 3 mm and with the coil's unevenness mostly gone, as after bias correction: eight patients to learn from (seeds 700
to 707) and ten others (800 to 809), all scanned at both sites. Besides histogram matching, fitted on the training patients, there are three test
harmonizers that know the truth: a perfect one, an eraser that puts the other side of the brain where the tumour was, and a cheat that returns
another patient. `downstream.csv`, which the notebook reads, has a row a patient, direction, method and part of the tumour; its rows of 15 steps are
those of a short training on two patients, which the notebook makes again and compares. It takes about a minute on one core.
"""
import argparse, time
from dataclasses import replace
from pathlib import Path

import numpy as np, pandas as pd, torch

from neuroscope.core import stack_sequences
from neuroscope.evaluation.histograms import HistogramMatching
from neuroscope.evaluation.downstream import LesionCase, downstream_dice
from neuroscope.evaluation.lesions import adversaries
from neuroscope.simulate import SITES, scan, simulate_subject

RESULTS = Path(__file__).parent/'results'
FULL = dict(steps=250)
SHORT = dict(steps=15, lr=.05, directions=('a2b',))

def patient(seed):
    "A simulated patient, scanned at both sites"
    even = {k: replace(s, bias=(0.,.05)) for k,s in SITES.items()}
    ph = simulate_subject(seed, spacing=3, margin=1)
    v = {k: stack_sequences(scan(ph, s)) for k,s in even.items()}
    return LesionCase(f'SIM-{seed}', {k: (o/np.percentile(o[:,ph.brain], 99, axis=1)[:,None,None,None]).astype(np.float32) for k,o in v.items()}, {k: ph.brain for k in 'ab'}, ph.lesion, ph.affine)

def patients(n_train=8, n_test=10):
    return ([patient(s+i) for i in range(n)] for s,n in ((700, n_train),(800, n_test)))

def methods(train, test):
    "Histogram matching and the harmonizers that know the truth"
    hm = HistogramMatching().fit(*([(c.vols[k], c.masks[k]) for c in train] for k in 'ab'))
    return dict(histogram_matching=hm,
                **{k: adversaries(test)[k] for k in ('perfect','eraser','cheat')})

def study(train, test, **kwargs):
    "The table of `downstream_dice`, with the steps of training beside it"
    problems = []
    table = downstream_dice(train, test, methods(train, test), problems=problems, **kwargs)
    assert not problems, problems
    return table.assign(steps=kwargs['steps'])

def main():
    argparse.ArgumentParser(description=__doc__,
                            formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.set_num_threads(1)
    t = time.process_time()
    train,test = patients()
    table = pd.concat([study(train, test, **FULL), study(train[:2], test[:2], **SHORT)])
    RESULTS.mkdir(exist_ok=True)
    table.round(dict(value=5)).to_csv(RESULTS/'downstream.csv', index=False)
    print(f'{len(table)} rows in {time.process_time()-t:.0f} s of processor time')

if __name__=='__main__': main()
