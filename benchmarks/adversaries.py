#!/usr/bin/env python
"""Which spoiled scans the verdict catches, by kind and strength, and how it blames honest ones.

Simulated cohorts (4 mm, patients and as many other people of the target site; seeds from 41000,
where no limit was set) and real patients of two sites (2 mm, glioma scans beside the project).
Adversaries are made on top of the true scan, and on top of Nyúl's map of the scan before. Two
files are written:

`adversaries.csv` has a row for each cohort, scan and knowledge of the truth: in how many patients a
local change is certain or possible, what the lesion alarms and the ceiling say, and whether the
page would sound an alarm. `adversaries_patients.csv` has the local changes patient by patient.

A simulated patient takes about a minute of processor time, a real one some four minutes. Cohorts in
the table are not run again.
"""
import argparse
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from scipy import ndimage as ndi

from neuroscope.core import find_subjects, image_data, shared_data
from neuroscope.evaluation.histograms import HistogramMatching
from neuroscope.evaluation.joint_maps import JointToneMapBaseline
from neuroscope.evaluation.landmarks import Nyul
from neuroscope.evaluation.carried import masked_blur
from neuroscope.evaluation.ceiling import ceiling_alarms, ceilings
from neuroscope.evaluation.kept import find_places, kept_alarms, kept_figures
from neuroscope.evaluation.lesions import LesionCase, normal_tissue, patient_axis, simulated_case
from neuroscope.evaluation.local_change import local_change
from neuroscope.imaging.tissues import TISSUE_CODES, tissue_codes
from neuroscope.models.site_match import apply_site_match, fit_site_match
from neuroscope.models.site_looks import summarize_scan

RESULTS = Path(__file__).parent/'results'
SIZES = (8, 12, 16)                                              # mm, of what is painted
KEPT = (.9, .81, .65, .5)                                        # shares of a contrast
LEAKS = (.1, .25, .5)                                            # shares of T1ce − T1
CUTS = (99, 90)                                                  # percentiles of normal tissue
REMOVED = (.5, 1)                                                # shares of an unmarked lesion
SEARCHED = ('satellite', 'faint satellite', 'cyst', 'border', 'unmarked lesion cut off',
            'unmarked lesion removed')                           # voxel by voxel; the rest only
                                                                 # changes what is marked
LOOK = np.array([.5, 1.2, 1.2, 1.2])[:, None, None, None]        # of the 98th percentile


# Where something is painted

def other_side(case):
    "The half of the brain that the lesion's middle is not in"
    axis = patient_axis(case.affine, 0)
    middle, lesion = (np.nonzero(m)[axis].mean() for m in (case.mask, case.seg > 0))
    place = np.indices(case.mask.shape)[axis]
    return place > middle if lesion < middle else place < middle


def spot(case, size, random, beside):
    "The middle of a ball; beside: opposite the lesion, in slices that hold it. None without room"
    zooms = nib.affines.voxel_sizes(case.affine)
    depth = ndi.distance_transform_edt(np.pad(case.mask, 1), sampling=zooms)[1:-1, 1:-1, 1:-1]
    room = (depth >= size/2 + 1) & normal_tissue(case.seg, case.mask, case.affine)
    axis = patient_axis(case.affine, 2)
    others = tuple(k for k in range(3) if k != axis)
    level = np.expand_dims((case.seg > 0).any(others), others)
    if beside: room = room & level & other_side(case)
    places = np.argwhere(room)
    return places[random.integers(len(places))] if len(places) else None


def ball(case, size, at):
    "Weights of a ball, 0 to 1, soft over a voxel"
    zooms = nib.affines.voxel_sizes(case.affine)
    offset = np.indices(case.mask.shape).T - at
    distance = np.sqrt(((offset*zooms)**2).sum(-1)).T
    return np.clip((size/2 - distance)/zooms.min() + .5, 0, 1)*case.mask


def blend(scan, look, weight):
    "A scan with a look put where the weight is"
    return (scan*(1 - weight) + look*weight).astype(np.float32)


# What is spoiled: each yields (kind, strength, scan)

def painted(case, scan, seed):
    "Blobs, whole and at half their contrast, and cysts, of several sizes"
    random = np.random.default_rng(seed)
    top, bottom = (np.percentile(scan[:, case.mask], p, axis=1)[:, None, None, None]
                   for p in (98, 2))
    cyst = bottom.copy()
    cyst[2] = top[2]
    for size in SIZES:
        for kind, look, beside in (('satellite', top*LOOK, True), ('cyst', cyst, False)):
            at = spot(case, size, random, beside)
            if at is None: continue
            yield kind, size, blend(scan, look, ball(case, size, at))
            if beside: yield f'faint {kind}', size, blend(scan, look, ball(case, size, at)/2)


def faded(case, scan, codes):
    "Enhancement, and the whole lesion in FLAIR, at a share of their contrast"
    white = np.median(scan[:, codes == TISSUE_CODES['wm']], axis=1)
    enhancing = codes == TISSUE_CODES['enhancing']
    lesion = codes > 3
    for kind, index, where in (('enhancement', 1, enhancing), ('FLAIR lesion', 3, lesion)):
        if where.sum() < 10: continue
        for share in KEPT:
            out = scan.copy()
            out[index][where] = white[index] + share*(scan[index][where] - white[index])
            yield kind, share, out


def bordered(case, scan, codes):
    "A lesion half a voxel, one or two smaller, or one larger, all round; the strength is in voxels"
    lesion = (case.seg > 0) & case.mask
    tissue = (codes == TISSUE_CODES['gm']) | (codes == TISSUE_CODES['wm'])
    sigma = 8/nib.affines.voxel_sizes(case.affine)
    around = np.stack([masked_blur(v, tissue, sigma) for v in scan])
    edge = lesion & ~ndi.binary_erosion(lesion)
    yield 'border', -.5, np.where(edge, (around + scan)/2, scan).astype(np.float32)
    yield 'border', -1, np.where(edge, around, scan).astype(np.float32)
    edge = lesion & ~ndi.binary_erosion(lesion, iterations=2)
    yield 'border', -2, np.where(edge, around, scan).astype(np.float32)
    oedema = codes == TISSUE_CODES['edema']
    ring = ndi.binary_dilation(lesion) & ~lesion & case.mask & (codes != TISSUE_CODES['csf'])
    if oedema.sum() < 10: return
    look = np.median(scan[:, oedema], axis=1)[:, None, None, None]
    yield 'border', 1, np.where(ring, look, scan).astype(np.float32)


def leaking(case, scan, codes):
    "What T1ce has over T1, written into T1"
    gain = scan[1] - scan[0]
    gain = np.clip(gain - np.median(gain[(codes > 0) & (codes <= 3)]), 0, None)*case.mask
    for share in LEAKS:
        out = scan.copy()
        out[0] += share*gain
        yield 'leak', share, out


def second_lesion(case, scans, codes, seed, size=16):
    "Scans with an oedema more, which no mask marks; None without room"
    at = spot(case, size, np.random.default_rng(seed + 99), True)
    oedema = codes == TISSUE_CODES['edema']
    if at is None or oedema.sum() < 30: return None
    weight = ball(case, size, at)
    for scan in scans:
        tissue = (codes == TISSUE_CODES['gm']) | (codes == TISSUE_CODES['wm'])
        look = np.median(scan[:, oedema], axis=1)[:, None, None, None]
        brighter = np.median(scan[3, tissue]) + 3.5*scan[3, tissue].std()
        look[3] = max(look[3], brighter)
        yield blend(scan, look, weight)


def cut(case, scan, codes, percentile):
    "T1ce, T2 and FLAIR cut off above a percentile of grey and white matter, outside the mask"
    tissue = (codes == TISSUE_CODES['gm']) | (codes == TISSUE_CODES['wm'])
    outside = case.mask & ~(case.seg > 0)
    out = scan.copy()
    for index in (1, 2, 3):
        top = np.percentile(scan[index][tissue], percentile)
        out[index][outside] = np.minimum(scan[index][outside], top)
    return out


# A cohort

@dataclass
class Cohort:
    "Patients, and the honest maps of their scans"
    data: str     # 'simulated' or 'real'
    name: str
    seed: int
    cases: list   # `LesionCase`s
    methods: dict # name -> function of a case


def masked(case):
    "A case with nothing outside the brain"
    case.vols = {k: np.where(case.mask, v, 0).astype(np.float32) for k, v in case.vols.items()}
    return case


def honest(cases, others, direction):
    "Maps fitted on two sites' patients"
    here = direction[0]
    there = direction[-1]
    pair = [(c.vols[here], c.mask) for c in cases], [(c.vols[there], c.mask) for c in others]
    if direction == 'b2a': pair = pair[::-1]
    fitted = [k().fit(*pair) for k in (Nyul, HistogramMatching, JointToneMapBaseline)]
    looks = [[summarize_scan(c.id, c.vols[site], c.mask, c.seg) for c in people]
             for people, site in ((cases, here), (others, there))]
    match = fit_site_match(*(looks if direction == 'a2b' else looks[::-1]))

    def of(method): return lambda case: method.translate(case.vols[here], case.mask, direction)

    def site_match(case):
        return apply_site_match(match, case.vols[here], case.mask, direction, case.seg)[0]
    return {m.name: of(m) for m in fitted} | dict(site_match=site_match)


def simulated(seed, n, spacing=4.):
    "A cohort of the simulator"
    cases = [masked(simulated_case(seed + k, spacing)) for k in range(n)]
    others = [masked(simulated_case(seed + 50 + k, spacing, sites='b', rescan=False))
              for k in range(n)]
    return Cohort('simulated', f'S{seed}', seed, cases, honest(cases, others, 'a2b'))


def real_case(subject, site):
    "A real patient at 2 mm, every sequence over its 99.5th percentile"
    vols = [image_data(image) for image in subject.load_all().values()]
    mask = np.logical_and.reduce([v > 0 for v in vols])[::2, ::2, ::2]
    vol = np.stack([ndi.uniform_filter(np.asarray(v, np.float32), 2)[::2, ::2, ::2] for v in vols])
    vol = vol/np.percentile(vol[:, mask], 99.5, axis=1)[:, None, None, None]
    seg = np.asarray(image_data(subject.load_seg(), None))[::2, ::2, ::2]
    affine = subject.load('t1').affine@np.diag([2, 2, 2, 1])
    return LesionCase(subject.id, {site: np.where(mask, vol, 0).astype(np.float32)}, {site: mask},
                      seg, affine)


def real(direction, n):
    "The real patients of one site, and maps to the other; None where they are not at hand"
    root = shared_data()
    if root is None: return None
    folders = dict(a=[root/'two_sites'/'upenn'], b=[root/'two_sites'/'tcga', root/'glioma'])
    found = {site: [s for folder in places for s in find_subjects(folder)
                    if s.complete and s.load_seg() is not None] for site, places in folders.items()}
    cases = {site: [real_case(s, site) for s in subjects] for site, subjects in found.items()}
    here = direction[0]
    there = direction[-1]
    methods = honest(cases[here], cases[there], direction)
    for case in cases[here]: case.vols = dict(a=case.vols[here])
    renamed = {k: _from_a(m, here) for k, m in methods.items()}
    return Cohort('real', f'{direction} of real patients', 0, cases[here][:n], renamed)


def _from_a(method, here):
    "A method that finds the scan under its own site"
    def of(case):
        return method(
            LesionCase(case.id, {here: case.vols['a']}, case.masks, case.seg, case.affine))
    return of


def scans_of(case, cohort):
    "Every scan of a patient: (base, group, kind, strength, scan, source, truth)"
    source = case.vols['a']
    truth = case.vols.get('b')
    codes = tissue_codes(source, case.mask, case.seg)
    mapped = {k: m(case) for k, m in cohort.methods.items()}
    yield '-', 'honest', 'identity', 0, source, source, truth
    for name, scan in mapped.items(): yield '-', 'honest', name, 0, scan, source, truth
    if truth is not None:
        yield '-', 'honest', 'true scan', 0, truth, source, truth
        yield '-', 'honest', 'second scan', 0, case.rescans['b']*case.mask, source, truth
    for base, scan in (('true scan', truth), ('nyul', mapped['nyul'])):
        if scan is None: continue
        for kind, strength, spoilt in (*painted(case, scan, cohort.seed), *faded(case, scan, codes),
                                       *bordered(case, scan, codes), *leaking(case, scan, codes)):
            yield base, 'adversary', kind, strength, spoilt, source, truth
        more = list(second_lesion(case, [source, scan], codes, cohort.seed) or ())
        if not more: continue
        known = None if truth is None else more[1] if base == 'true scan' else truth
        yield base, 'honest', f'unmarked lesion on {base}', 0, more[1], more[0], known
        for percentile in CUTS:
            yield (base, 'adversary', 'unmarked lesion cut off', percentile,
                   cut(case, more[1], codes, percentile), more[0], known)
        for share in REMOVED:
            yield (base, 'adversary', 'unmarked lesion removed', share,
                   more[1] + share*(scan - more[1]), more[0], known)


def measured(cohort):
    "Local changes of every scan of every patient, what is kept of lesions, and ceilings"
    rows = []
    kept = []
    tops = []
    for case in cohort.cases:
        places = {}
        for base, group, kind, strength, scan, source, truth in scans_of(case, cohort):
            if id(source) not in places:        # the source is kept, so its id stays its own
                places[id(source)] = source, find_places(source, case.mask, case.seg, case.affine)
            # on top of Nyúl's map there is no truth to depart from but the scanner's
            for known in ([truth, None] if truth is not None and base != 'nyul' else [None]):
                own = dict(subject=case.id, base=base, group=group, kind=kind, strength=strength,
                           knows=known is not None)
                if kind in SEARCHED or group == 'honest':
                    found = local_change(source, scan, case.mask, case.affine, case.seg, known)
                    rows.append(dict(own, certain=int(found.certain.sum()), possible=len(found),
                                     peak=found.peak.max()))
                else: rows.append(dict(own, certain=0, possible=0, peak=np.nan))
                figures = kept_figures(places[id(source)][1], source, scan, known)
                judged = dict(own, method='harmonized', direction='a2b')
                kept.append(figures.assign(**judged))
                tops.append(ceilings(source, scan, case.mask, case.seg).assign(**judged))
        print(cohort.name, case.id, flush=True)
    return pd.DataFrame(rows), pd.concat(kept), pd.concat(tops)


def summed(cohort, rows, kept, tops):
    "A row a cohort, scan and knowledge of the truth"
    keys = ['base', 'group', 'kind', 'strength', 'knows']
    lesions, limits = (dict(list(t.groupby(keys, sort=False))) for t in (kept, tops))
    for key, group in rows.groupby(keys, sort=False):
        said, grave = kept_alarms(lesions[key]) if key in lesions else ([], False)
        said = said + ceiling_alarms(limits[key])
        certain = int((group.certain > 0).sum())
        possible = int((group.possible > 0).sum())
        yield dict(data=cohort.data, cohort=cohort.name, **dict(zip(keys, key)), n=len(group),
                   certain=certain, possible=possible, said='; '.join(said),
                   alarm=bool(possible or said), forbidden=bool(certain or grave))


def run(cohort):
    "Measure a cohort and add it to the tables"
    rows, kept, tops = measured(cohort)
    for name, table in (
        ('adversaries', pd.DataFrame(summed(cohort, rows, kept, tops))),
        ('adversaries_patients', rows.assign(data=cohort.data, cohort=cohort.name))):
        path = RESULTS/f'{name}.csv'
        old = [pd.read_csv(path)] if path.exists() else []
        pd.concat([*old, table]).to_csv(path, index=False, float_format='%.4g')
    return kept


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seeds', nargs='*', type=int, default=[41000], help='of cohorts')
    parser.add_argument('--patients', type=int, default=8, help='of a simulated cohort')
    parser.add_argument('--real', type=int, default=0, help='patients of each real site')
    parser.add_argument('--keep', type=Path, help='folder for what was measured of lesions')
    args = parser.parse_args()
    path = RESULTS/'adversaries.csv'
    done = set(pd.read_csv(path).cohort) if path.exists() else set()
    for seed in args.seeds:
        if f'S{seed}' in done: continue
        kept = run(simulated(seed, args.patients))
        if args.keep: kept.to_pickle(args.keep/f'kept_S{seed}.pkl')
    for direction in ('a2b', 'b2a') if args.real else ():
        cohort = real(direction, args.real)
        if cohort is None:
            print('The real scans are not here: skipped.')
            continue
        if cohort.name in done: continue
        kept = run(cohort)
        if args.keep: kept.to_pickle(args.keep/f'kept_{direction}.pkl')


if __name__ == '__main__': main()
