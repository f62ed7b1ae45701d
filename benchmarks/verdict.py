#!/usr/bin/env python
"""Whether the page's verdict is right of methods whose worth is known, on cohorts other than those of the notebooks.

Everything here is simulated. The limits were set on the cohorts of the notebooks and on others with
seeds below 40000: two sites, one grid, one kind of patients. Here patients have seeds from 50000, and the
cohorts differ in what they are compared by: two further scanners, the way back, a finer grid, patients
and target people without lesions. Honest methods (the true scan, a second scan, identity, histogram
matching, the joint tone map) stand beside those that know the truth and spoil one thing.

`verdict.csv` has a row for each cohort and method, with truth and without it: what was said, and the
figures it was said for. A cohort takes some five minutes of processor time and is written when it is
done; cohorts in the table are not run again. --only runs some of them.
"""
import argparse
import tempfile
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from adversaries import bordered, leaking, painted
from scipy import ndimage as ndi
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from neuroscope.core import SEQUENCES, Cohort, save_volume, stack_sequences
from neuroscope.evaluation.histograms import HistogramMatching, match_quantiles, value_quantiles
from neuroscope.evaluation.methods import apply_method
from neuroscope.evaluation.pairs import load_normalized
from neuroscope.evaluation.site_classifiers import domain_classifier
from neuroscope.evaluation.site_features import gap_features
from neuroscope.evaluation.cases import JUDGED, Evaluation, plan_evaluation
from neuroscope.evaluation.answers import summing_up
from neuroscope.evaluation.lesions import (LesionCase, adversaries, heal, lesion_masks, mirrored,
                                           other_patient, paint_lesion)
from neuroscope.imaging.tissues import tissue_codes
from neuroscope.simulate import SITE_A, SITE_B, Protocol, Site, scan, simulate_subject, t1_pair

RESULTS = Path(__file__).parent/'results'
N = 8

# Two scanners that no notebook has

SITE_C = Site('c', 3., noise=.03,
              protocols=dict(**t1_pair(Protocol('spgr', tr=9, te=3, flip=14, thickness=1.5)),
                             t2=Protocol('tse', tr=5200, te=110, thickness=3),
                             flair=Protocol('flair', tr=10000, te=120, ti=2600, thickness=3)))
SITE_D = Site('d', 1.5, noise=.035,
              protocols=dict(**t1_pair(Protocol('mprage', tr=2000, te=3.5, ti=1000, flip=10)),
                             t2=Protocol('tse', tr=3500, te=90, thickness=4),
                             flair=Protocol('flair', tr=8500, te=130, ti=2150, thickness=4)))
SITES = dict(a=SITE_A, b=SITE_B, c=SITE_C, d=SITE_D)

@dataclass
class Trial:
    "A cohort: who was scanned where, and on which grid"
    name:str
    source:str='a'     # site of the patients
    target:str='b'     # where they were scanned too, and the others
    spacing:float=4.   # mm
    seed:int=3000      # of the first patient
    ill:int=N          # patients with a lesion, of the source
    ill_target:int=N   # of the target

TRIALS = [Trial('other people', seed=50000),
          Trial('the way back', 'b', 'a', seed=50200),
          Trial('from C to B', 'c', 'b', seed=50500),
          Trial('half of the patients without lesion', seed=50900, ill=N//2),
          Trial('grid of 3 mm', spacing=3., seed=50300),
          Trial('from D to C', 'd', 'c', seed=50700),
          Trial('target without lesions', seed=50800, ill_target=0)]

def patient(seed, spacing, sites, ill=True):
    "A simulated patient: scans by role 'a' (source) and 'b' (target), normalized, and for who has both a second scan at the target"
    ph = simulate_subject(seed, spacing=spacing, margin=1)
    ph = ph if ill else heal(ph)
    def normalized(site, draw):
        v = stack_sequences(scan(ph, site, draw))
        return np.where(ph.brain, v/np.percentile(v[:,ph.brain], 99.5, axis=1)[:,None,None,None],
                        0).astype(np.float32)
    return LesionCase(f'S{seed}', {k: normalized(s, 0) for k,s in sites.items()},
                      {k: ph.brain for k in sites}, ph.lesion, ph.affine,
                      {'a': None, 'b': normalized(sites['b'], 1)} if 'a' in sites else {})

def store(case, role, folder):
    "A simulated scan as a subject on disk"
    for q,v in zip(SEQUENCES, case.vols[role]):
        save_volume(nib.Nifti1Image(v, case.affine), folder/case.id/f'{case.id}_{q}.nii.gz')
    save_volume(nib.Nifti1Image(case.seg.astype(np.uint8), case.affine),
                folder/case.id/f'{case.id}_seg.nii.gz')

# Opponents that are harder to see than those of the lesion metrics

def smooth(v, c, mm):
    s = mm/nib.affines.voxel_sizes(c.affine)
    w = ndi.gaussian_filter(c.mask.astype(float), s)+1e-6
    return np.stack([ndi.gaussian_filter(o.astype(float)*c.mask, s)/w for o in v])

def faint_hallucinator(i, c, t):
    return t if i%3 else t+.5*(paint_lesion(t, c.mask, c.seg, c.affine, radius=6., seed=i)-t)

def rim_eraser(i, c, t):
    m = lesion_masks(c.seg)['enhancing']&c.mask
    out = t.copy()
    ref = mirrored(m, c.mask, c.affine)&c.mask&(c.seg==0)
    if m.any() and ref.any(): out[1][m] = t[0][m]+(t[1]-t[0])[ref].mean()
    return out

def borrower(hm, others):
    "A function that takes histogram and low frequencies from a target patient, edges from the source"
    def borrowed_lows(i, c, t):
        other = other_patient(others[i].vols['b'], c.mask)
        src = hm.translate(c.vols['a'], c.mask, 'a2b')
        mixed = smooth(other, c, 8.)+src-smooth(src, c, 8.)
        out = np.zeros_like(src)
        for q in range(4):
            out[q][c.mask] = match_quantiles(mixed[q][c.mask], value_quantiles(other[q][c.mask]))
        return out
    return borrowed_lows

def spoiler(make, kind, strength):
    "A function that makes of the true scan one of the adversaries of `adversaries.py`"
    def spoilt(i, c, t):
        made = make(c, t, i)
        return next((scan for k, s, scan in made if (k, s) == (kind, strength)), t)
    return spoilt

def with_codes(make, case, scan, seed):
    "An adversary that is told the tissues of the source"
    return make(case, scan, tissue_codes(case.vols['a'], case.mask, case.seg))

NEWER = dict(satellite_painter=spoiler(painted, 'satellite', 16),
             border_shrinker=spoiler(partial(with_codes, bordered), 'border', -1),
             leaker=spoiler(partial(with_codes, leaking), 'leak', .5))

def opponents(cases, others):
    "Every opponent, as functions of volume, mask and direction"
    known = {c.vols['a'].tobytes(): (i,c) for i,c in enumerate(cases)}
    hm = HistogramMatching().fit([(c.vols['a'], c.mask) for c in cases],
                                 [(c.vols['b'], c.mask) for c in others])
    def as_method(f):
        def method(vol, mask, direction):
            i,c = known[vol.tobytes()]
            return np.where(mask, f(i, c, c.vols['b']), 0).astype(np.float32)
        return method
    harder = dict(faint_hallucinator=faint_hallucinator, rim_eraser=rim_eraser,
                  borrowed_lows=borrower(hm, others)) | NEWER
    return ({'second_scan' if k=='rescan' else k: m
             for k,m in adversaries(cases).items() if k!='identity'}
            | {k: as_method(f) for k,f in harder.items()})

# The study

BASE = ('identity','histogram_matching','joint_tone_map')
FIGURES = ['ssim','psnr','auc','foretold','contrast_error','flair_kept','enhancement_kept',
           'lost_rate','false_rate','image','site','biology','alarms']

def said(ev):
    "What a page would say of each method: 'do not use', 'not good enough' or 'nothing against'"
    words = {m: summing_up(ev.answers(method=m)) for m in ev.methods}
    return {m: 'do not use' if t.startswith('Do not use') else 'not good enough'
            if t.startswith('Not good enough') else 'nothing against' for m,t in words.items()}

def same_classifier():
    "`default_classifier` by a solver that is faster for few features"
    return make_pipeline(StandardScaler(),
                         LogisticRegression(C=.1, class_weight='balanced',
                                            solver='newton-cholesky'))

def told_apart(ev):
    "Of the tests of the site effect, the one that the verdict rests on: a row for each method, and for the truth"
    def look(id, v, mask): return gap_features(id, v, mask, {})
    target = [look(s.id, *load_normalized(s)) for s in ev.target]
    got = {}
    for c in ev.cases():
        for k,m in ev.methods.items():
            got.setdefault(k, []).append(
                look(c.id, apply_method(m, c.id, c.vols['a'], c.masks['a'], 'a2b'), c.masks['a']))
        got.setdefault('truth', []).append(look(c.id, c.vols['b'], c.masks['a']))
    rows = {k: domain_classifier(g, target, 'patches', same_classifier, n_permutations=20,
                                 n_boot=100) for k,g in got.items()}
    return pd.DataFrame([dict(method=k, metric='auc', features='patches', value=r['auc'][0],
                              low=r['auc'][1], high=r['auc'][2], p=r['p']) for k,r in rows.items()])

def measured(trial):
    "All tables of a cohort, measured with truth, and the names of the methods"
    sites = dict(a=SITES[trial.source], b=SITES[trial.target])
    cases = [patient(trial.seed+i, trial.spacing, sites, i<trial.ill) for i in range(N)]
    others = [patient(trial.seed+50+i, trial.spacing, dict(b=sites['b']), i<trial.ill_target)
              for i in range(N)]
    with tempfile.TemporaryDirectory() as tmp:
        root = Path(tmp)
        for c in cases:
            store(c, 'a', root/'source')
            store(c, 'b', root/'truth')
        for c in others: store(c, 'b', root/'target')
        ev = plan_evaluation(root/'source', root/'truth', root/'target', root/'truth',
                             baselines=BASE, methods=opponents(cases, others), simulated=True)
        # the true scan, which is among the opponents
        del ev.methods[JUDGED]
        parts = 'tissues', 'anatomy', 'lesions', 'kept', 'changes'
        ev.measure('quality', *parts, n_boot=100)
        blind = replace(ev, truth=Cohort(), tables={}).measure(*parts)
        site = told_apart(ev)
    return dict(methods=list(ev.methods), truth=ev.tables | dict(site_effect=site),
                blind=blind.tables | dict(site_effect=site[site.method!='truth']))

def judged(trial, m):
    "A row for each method, with truth and without"
    for truth in (True, False):
        ev = Evaluation('a2b', Cohort(), Cohort(), Cohort(), dict.fromkeys(m['methods']),
                        m['truth' if truth else 'blind'])
        st = ev.standings()
        words = said(ev)
        for k,r in st.iterrows():
            yield dict(cohort=trial.name, truth=truth, method=k, said=words[k],
                       **{f: r.get(f, np.nan) for f in FIGURES})

def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--only', nargs='+', type=int, metavar='N',
                        help=f'numbers of cohorts, 0 to {len(TRIALS) - 1}')
    parser.add_argument('--keep', type=Path, metavar='DIR',
                        help='keep what was measured here, and judge anew what was measured before')
    args = parser.parse_args()
    start = time.process_time()
    path = RESULTS/'verdict.csv'
    for i in range(len(TRIALS)) if args.only is None else args.only:
        trial = TRIALS[i]
        file = args.keep and args.keep/f'{i}.pkl'
        known = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=['cohort'])
        if file and file.exists(): got = pd.read_pickle(file)
        elif (known.cohort == trial.name).any(): continue
        else: got = measured(trial)
        if file:
            args.keep.mkdir(exist_ok=True)
            pd.to_pickle(got, file)
        rows = pd.DataFrame(list(judged(trial, got)))
        print(f'\n{i} {trial.name}: {time.process_time() - start:.0f} s of processor time so far')
        said = rows.pivot(index='method', columns='truth', values='said')
        print(said.reindex(dict.fromkeys(rows.method)).to_string(), flush=True)
        others = known[known.cohort != trial.name]
        table = pd.concat([others, rows]) if len(others) else rows
        table.to_csv(path, index=False, float_format='%.4g')


if __name__ == '__main__': main()
