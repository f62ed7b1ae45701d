#!/usr/bin/env python
"""What the quality checks say of real patients: as they are, tilted, with a piece cut away, moved and misfiled.

The patients beside the project (`neuroscope.core.shared_data`), sorted by name: the limits were set on every second one, beginning with the
first (`set`), and are reported on the others (`held`). One table is written, `quality_real.csv`, a row a trial, which the notebook on evidence
reads; `verdict` is that of the checks that are meant to find the fault, and for a patient as he is that of all checks, with what they say.
"""
import argparse, itertools, sys, time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage as ndi

from neuroscope.core import SEQUENCES, find_subjects, shared_data
from neuroscope import quality as Q
from neuroscope.testing import moved, swap

RESULTS = Path(__file__).parent/'results'
FOLDERS = 'two_sites/upenn', 'two_sites/tcga', 'glioma'

def tilted(x, degrees, axis):
    "The scan of a head that was laid down otherwise, turned about an axis"
    plane = tuple(i for i in range(3) if i != axis)
    turn = lambda v: ndi.rotate(np.pad(v, 25).astype(np.float32), degrees, plane, reshape=False, order=1)
    mask = turn(x.mask) > .5
    return replace(x, data=turn(x.data)*mask, mask=mask, lesion=None)

def without_front(x, mm, lean):
    "The scan without the front: a plane `mm` behind the foremost point takes it off, upright or leaning by degrees"
    normal = np.array([0, np.cos(np.radians(lean)), np.sin(np.radians(lean))])
    depth = ((np.indices(x.mask.shape).T*x.zooms) @ normal).T
    keep = depth <= depth[x.mask].max() - mm
    return replace(x, data=x.data*keep, mask=x.mask & keep)

def trials(subject, rank):
    "A row for each trial of a patient; `rank` is his place among the patients"
    whole = Q.assess_subject(subject)
    scans,seq = whole.scans,SEQUENCES[rank % 4]
    yield dict(trial='whole', strength=0, verdict=whole.verdict, value=np.nan, says='; '.join(f'{f.check} {f.sequence or ""}: {f.reason}' for f in whole.objections))
    for name,check in (('shape', 'brain_shape'), ('moved', 'alignment')):
        found = [f for f in whole.findings if f.check == check]
        yield dict(trial=name, strength=0, verdict=Q.worst(found), value=max(f.value for f in found))
    for degrees,axis in ((15, rank % 3), (-15, (rank+1) % 3)):
        f = Q.check_brain_shape(tilted(scans['t1'], degrees, axis))
        yield dict(trial='tilted', strength=degrees, verdict=f.verdict, value=f.value)
    for mm,lean in ((15, 0), (20, 25), (25, 0)):
        bad = without_front(scans['t1'], mm, lean)
        found = [Q.check_brain_shape(bad), Q.check_field_of_view(bad)]
        yield dict(trial='front cut' if not lean else 'front cut, leaning', strength=mm, verdict=Q.worst(found), value=found[0].value)
    for mm in (4, 8):
        found = Q.check_alignment(scans | {seq: moved(scans[seq], mm, rank % 3)})
        own = next(f for f in found if f.sequence == seq)
        yield dict(trial='moved', strength=mm, verdict=own.verdict, value=own.value)
    for name,known in (('swapped', scans), ('swapped, no mask', {q: replace(x, lesion=None) for q,x in scans.items()})):
        f = Q.check_wrong_sequence(known)[0]
        yield dict(trial=name, strength=0, verdict=f.verdict, value=f.value)
        for k,(a,b) in enumerate(itertools.combinations(SEQUENCES, 2), 1):
            f = Q.check_wrong_sequence(swap(known, a, b))[0]
            yield dict(trial=name, strength=k, verdict=f.verdict, value=f.value)

def main():
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    root,start,rows = shared_data(),time.process_time(),[]
    if root is None: sys.exit('there are no real scans here')
    subjects = sorted((s for f in FOLDERS for s in find_subjects(root/f)), key=lambda s: s.id)
    for rank,subject in enumerate(subjects):
        rows += [dict(patient=subject.id, part='held' if rank % 2 else 'set') | r for r in trials(subject, rank)]
        pd.DataFrame(rows).to_csv(RESULTS/'quality_real.csv', index=False, float_format='%.4g')
        print(subject.id, f'{time.process_time()-start:.0f} s', flush=True)

if __name__=='__main__': main()
