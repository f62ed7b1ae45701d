#!/usr/bin/env python
"""How well the quality checks find faults of graded strength, on simulated patients; and what they say of patients without faults.

Everything here is simulated: patients with the seeds 200 to 207 at both sites, on voxels of 2 mm (the limits of the checks were set on the seeds
100 to 107). Motion, ghosts and spikes are made by TorchIO, the rest by the functions below. Each fault is scored by the checks that are meant to
find it, on a scale where 1 is the limit of *look* and 2 that of *fail*. Every fault of a patient has random numbers of its own, so any part of the
study can be run again alone and must give the same rows.

Two tables are written, which the notebook on quality reads: `faults.csv`, a row a trial, and `faults_clean.csv`, the value of each check on the
seeds 100 to 103 without faults. It takes some minutes on one core.
"""
import argparse, functools, itertools, time
from dataclasses import replace
from pathlib import Path

import nibabel as nib, numpy as np, pandas as pd, torch, torchio as tio
from scipy import ndimage as ndi

from neuroscope.core import SEQUENCES
from neuroscope import quality as Q
from neuroscope.imaging.regions import add_air, air_mask, closed_head
from neuroscope.simulate import scan, simulate_subject
from neuroscope.testing import (bite, by_torchio, double, flipped, moved, scale_slice, swap,
                                with_scalp)

RESULTS,SEEDS,CLEAN_SEEDS = Path(__file__).parent/'results',range(200, 208),range(100, 104)

# How a scan is damaged

def by_motion(x, amount, rng, n=4):
    "Rigid motions of up to `amount` degrees and mm at `n` times while k-space is filled along front-back, or left-right"
    order = (0, 2, 1) if rng.random() < .5 else (2, 1, 0)      # torchio fills k-space along the last axis
    d,z = x.data.transpose(order),x.zooms[list(order)]
    affine = nib.affines.from_matvec(np.diag(z), -z*np.array(d.shape)/2)    # it turns about the origin of the world
    t = tio.Motion(degrees=rng.uniform(-amount, amount, (n, 3)), translation=rng.uniform(-amount, amount, (n, 3)), times=np.sort(rng.uniform(.1, .9, n)), image_interpolation='linear')
    return by_torchio(d, t, affine).transpose(order)

# The faults: strengths, what these are, how it is done, which checks are to find it

def _change(x, data): return replace(x, data=(data*x.mask if x.stripped else data).astype(np.float32))
def _ghost(x, v, rng): return _change(x, by_torchio(x.data, tio.Ghosting(num_ghosts=int(rng.integers(3, 8)), axis=int(rng.integers(2)), intensity=v, restore=.02)))
def _motion(x, v, rng): return _change(x, by_motion(x, v, rng))
def _spike(x, v, rng): return _change(x, by_torchio(x.data, tio.Spike(spikes_positions=rng.uniform(.1, .4, (1, 3))*rng.choice([-1, 1], (1, 3)), intensity=v)))
def _cut(x, mm, rng):
    ax,data = int(rng.integers(3)),x.data.copy()
    filled = np.flatnonzero(x.mask.any(tuple(i for i in range(3) if i != ax))); top = ax == 2 or rng.random() < .5   # a cut stem is none
    np.moveaxis(data, ax, 0)[filled[-1]+1-int(mm/x.zooms[ax]) if top else 0:None if top else filled[0]+int(mm/x.zooms[ax])] = 0
    return replace(x, data=data)
def _a_slice(x, rng): return int(rng.integers(*(np.flatnonzero(x.mask.any((0,1)))[[0,-1]] + (12, -11))))
def _darken(x, loss, rng): return replace(x, data=scale_slice(1-loss, _a_slice(x, rng))(x.data.copy()))
def _repeat(x, w, rng): return replace(x, data=double(w, _a_slice(x, rng))(x.data.copy()))
def _clip(x, share, rng): return replace(x, data=np.minimum(x.data, np.quantile(x.data[x.mask], 1-share)))
def _scalp(x, part, rng): return with_scalp(x, 4, part)
def _lose(x, mm, rng): return bite(x, mm, (rng.choice([0., 1.]), rng.uniform(.2, .8), rng.uniform(.4, .9)))
def _shift(x, mm, rng): return moved(x, mm*rng.choice([-1, 1]), int(rng.integers(3)))
def _mirror(x, ax, rng): return flipped(x, int(ax)-1)

FAULTS = dict(
    ghosts       =((.1, .2, .4, .8), 'share of k-space lines lost', _ghost, (Q.check_ghosting,)),
    ghosts_in_air=((.1, .2, .4, .8), 'share of k-space lines lost, not stripped', _ghost, (Q.check_air_ghosts,)),
    motion       =((1, 2, 4, 8), 'degrees and mm', _motion, (Q.check_motion, Q.check_ghosting)),
    motion_in_air=((1, 2, 4, 8), 'degrees and mm, not stripped', _motion, (Q.check_air_ghosts,)),
    spikes       =((.03, .06, .12, .25), 'share of the k-space maximum', _spike, (Q.check_spikes,)),
    cut          =((4, 8, 12, 20), 'mm cut off', _cut, (Q.check_field_of_view, Q.check_coverage)),
    dark_slice   =((.1, .25, .4, .8), 'loss of signal', _darken, (Q.check_missing_slices,)),
    double_slice =((.5, .8, .9, 1.), 'share copied', _repeat, (Q.check_duplicate_slices,)),
    clipped      =((.0005, .002, .01, .05), 'share of the brain', _clip, (Q.check_clipped,)),
    scalp_left   =((.1, .2, .3, .5), 'share of the head', _scalp, (Q.check_skull_left,)),
    brain_lost   =((10, 15, 20, 30), 'radius in mm', _lose, (Q.check_brain_shape,)),
    shifted      =((1, 2, 4, 8), 'mm', _shift, (Q.check_alignment,)),
    mirrored     =((1, 2, 3), 'axis', _mirror, (Q.check_mirrored,)),
    flipped      =((2, 3), 'axis', _mirror, (Q.check_orientation,)),
    swapped      =(tuple(range(1, 7)), 'pair of sequences', None, (Q.check_wrong_sequence,)))

# The study

@functools.lru_cache(1)
def anatomy(seed): return simulate_subject(seed, spacing=2.)      # both sites scan the same patient, one after the other

def patient(seed, site):
    "The four scans of a patient, with some room around the brain"
    ph = anatomy(seed)
    x = {q: Q.make_scan(i, ph.brain, q, ph.lesion > 0) for q,i in scan(ph, site).items()}
    return {q: replace(v, **{k: np.pad(getattr(v, k), 8) for k in ('data', 'mask', 'lesion')}) for q,v in x.items()}

def unstripped(x, seed):
    "The scan in noisy air, with the head's mask in the place of the brain's"
    data = add_air(x.data, .025*x.data[x.mask].mean(), seed)
    return Q.Scan(x.name, data, (h := closed_head(data, x.zooms)), x.zooms, None, False, 0, air_mask(data, h, x.zooms))

def score(findings):
    "1 at the limit of look, 2 at that of fail; the worst of several"
    return max((1 + (f.value-Q.LIMITS[f.check][0])/(Q.LIMITS[f.check][1]-Q.LIMITS[f.check][0]) for f in findings if not np.isnan(f.value)), default=np.nan)

def score_of(scans, seq, checks):
    "The score of one sequence, or of the subject, by some checks"
    res = []
    for c in checks: res += [f for f in c(scans) if f.sequence in (seq, None)] if c in Q.CROSS_CHECKS else [c(scans[seq])]
    return score(res)

def trials(seed, site, faults=tuple(FAULTS)):
    "A row for each strength of each fault of a patient, strength 0 (without the fault) included"
    scans = patient(seed, site)
    for name in faults:
        levels,_,f,checks = FAULTS[name]
        seq,rng = 't1' if name == 'scalp_left' else SEQUENCES[(2*seed+(site == 'b')+len(name))%4],np.random.default_rng([seed, ord(site), list(FAULTS).index(name)])
        use = {seq: unstripped(scans[seq], seed)} if name.endswith('air') else scans
        pairs = list(itertools.combinations(SEQUENCES, 2))
        for v in (0, *levels):
            bad = use if not v else swap(use, *pairs[v-1]) if name == 'swapped' else use | {seq: f(use[seq], v, rng)}
            yield dict(fault=name, level=float(v), seed=seed, site=site, score=score_of(bad, seq, checks))

def clean(seed, site):
    "The value of every check on a patient without faults"
    return [dict(seed=seed, site=site, check=f.check, sequence=f.sequence, value=f.value) for f in Q.check_scans(patient(seed, site)) if not np.isnan(f.value)]

def main():
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.set_num_threads(1)
    t,people = time.process_time(),lambda seeds: itertools.product(seeds, 'ab')
    faults,without = [r for p in people(SEEDS) for r in trials(*p)],[r for p in people(CLEAN_SEEDS) for r in clean(*p)]
    RESULTS.mkdir(exist_ok=True)
    pd.DataFrame(faults).round(dict(score=4)).to_csv(RESULTS/'faults.csv', index=False)
    pd.DataFrame(without).to_csv(RESULTS/'faults_clean.csv', index=False, float_format='%.5g')
    print(f'{len(faults)} trials, and {len(without)} values without a fault, in {time.process_time()-t:.0f} s of processor time')

if __name__=='__main__': main()
