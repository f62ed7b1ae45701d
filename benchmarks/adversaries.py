#!/usr/bin/env python
"""Which spoiled scans the voxelwise checks catch, by kind, strength and size, and how often honest scans raise an alarm.

Simulated patients (seeds from 7000, 4 mm) are spoiled on top of their true scan. Real patients (at
2 mm) are spoiled on top of a monotone map of each sequence. A row of `adversaries.csv` is one scan,
with truth or without. Patients that are in the table already are not measured again.
The stored table holds one simulated patient and no real one; its borders were not measured.
"""
import argparse
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from scipy import ndimage as ndi

from neuroscope.core import SEQUENCES, find_subjects, shared_data
from neuroscope.evaluation.baselines import HistogramMatching, JointToneMapBaseline, Nyul, load_pair
from neuroscope.evaluation.lesions import LesionCase, erase_lesion, normal_tissue, patient_axis
from neuroscope.evaluation.lesions import simulated_case
from neuroscope.evaluation.local_change import border_change, contrast_ratio, local_change
from neuroscope.evaluation.local_change import masked_blur
from neuroscope.imaging.tissues import TISSUE_CODES, tissue_codes

RESULTS = Path(__file__).parent/'results'/'adversaries.csv'
N = 8
SATELLITE = np.array([.5, 1.2, 1.2, 1.2])[:, None, None, None]  # of the 98th percentile
DARK = 2      # percentile of a cyst's T1, T1ce and FLAIR


def spot(case, size, rng, beside):
    "The middle of a ball in normal tissue; beside: in slices that hold the lesion"
    zooms = nib.affines.voxel_sizes(case.affine)
    depth = ndi.distance_transform_edt(np.pad(case.mask, 1), sampling=zooms)[1:-1, 1:-1, 1:-1]
    room = (depth >= size/2) & normal_tissue(case.seg, case.mask, case.affine)
    axis = patient_axis(case.affine, 2)
    others = tuple(k for k in range(3) if k != axis)
    level = np.expand_dims((case.seg > 0).any(others), others)
    if beside and (room & level).any(): room &= level
    places = np.argwhere(room)
    return places[rng.integers(len(places))]


def ball(case, size, rng, beside):
    "Weights of a ball, 0 to 1, soft over a voxel"
    zooms = nib.affines.voxel_sizes(case.affine)
    offset = np.indices(case.mask.shape).T - spot(case, size, rng, beside)
    distance = np.sqrt(((offset*zooms)**2).sum(-1)).T
    return np.clip((size/2 - distance)/zooms.min() + .5, 0, 1)*case.mask


def blend(scan, look, weight):
    "A scan with a look put where the weight is"
    return (scan*(1 - weight) + look*weight).astype(np.float32)


def spoiled(case, scan, rng):
    "Every adversary: kind, strength, size and scan"
    at = lambda p: np.percentile(scan[:, case.mask], p, axis=1)[:, None, None, None]
    bright, cyst = at(98)*SATELLITE, at(DARK)
    cyst[SEQUENCES.index('t2')] = at(98)[SEQUENCES.index('t2')]
    for size in (8, 10, 12, 16, 20):
        yield 'satellite', 1., size, blend(scan, bright, ball(case, size, rng, True))
    for strength in (.25, .5):
        yield 'satellite', strength, 16, blend(scan, bright, strength*ball(case, 16, rng, True))
    for size in (10, 12, 16):
        yield 'cyst', 1., size, blend(scan, cyst, ball(case, size, rng, False))
    yield 'erased', 1., np.nan, erase_lesion(scan, case.mask, case.seg, case.affine)
    yield from spoiled_parts(case, scan)


def spoiled_parts(case, scan):
    "What is done to the lesion itself"
    codes = tissue_codes(case.vols['a'], case.mask, case.seg)
    rim = codes == TISSUE_CODES['enhancing']
    white = [np.median(v[codes == TISSUE_CODES['wm']]) for v in scan]
    for kept in (.5, .65, .81, .9):
        out = scan.copy()
        out[1][rim] = white[1] + kept*(scan[1][rim] - white[1])
        yield 'enhancement', kept, np.nan, out
    lesion = (case.seg > 0) & case.mask
    for voxels in (1, 2):
        edge = lesion & ~ndi.binary_erosion(lesion, iterations=voxels)
        out = scan.copy()
        for k, value in enumerate(white): out[k][edge] = value
        yield 'border', float(voxels), np.nan, out
    for share in (.25, .5):
        out = scan.copy()
        gain = scan[1] - scan[0]
        out[0] += share*(gain - np.median(gain[case.mask & ~lesion]))*case.mask
        yield 'leak', share, np.nan, out


def honest_of(case, scan):
    "Honest scans that need no cohort"
    zooms = nib.affines.voxel_sizes(case.affine)
    source = case.vols['a']
    yield 'identity', source
    yield 'base', scan
    axis = np.eye(3)[patient_axis(case.affine, 2)]
    yield '5 mm slices', blurred(source, case.mask, 2*axis/zooms)
    yield 'denoised', blurred(source, case.mask, 1/zooms)
    yield 'sharpened', 1.5*source - .5*blurred(source, case.mask, 1/zooms)
    if 'b' in case.rescans: yield 'second scan', case.rescans['b']*case.mask


def blurred(vol, mask, sigma):
    "All sequences blurred inside the brain"
    return np.stack([masked_blur(v, mask, sigma)*mask for v in vol]).astype(np.float32)


def figures(case, output, truth):
    "What the checks say of one scan"
    source = case.vols['a']
    found = local_change(source, output, case.mask, case.affine, case.seg, truth)
    codes = tissue_codes(source, case.mask, case.seg)
    base = source if truth is None else truth
    ratio = contrast_ratio(base, output, codes, case.affine).set_index(['part', 'sequence']).ratio
    border = border_change(base, output, case.mask, case.seg, case.affine).set_index(['part', 'sequence'])
    return dict(certain=int(found.certain.sum()), doubt=len(found), peak=found.peak.max(),
                enhancement=ratio.get(('enhancing', 't1ce'), np.nan),
                t1_enhancing=ratio.get(('enhancing', 't1'), np.nan),
                border=border.ratio.get(('lesion', 'flair'), np.nan))


def patient_rows(case, scan, data, methods):
    "A row for each scan and knowledge of the truth"
    rng = np.random.default_rng(0)
    scans = [('honest', k, np.nan, np.nan, v) for k, v in honest_of(case, scan)]
    scans += [('honest', k, np.nan, np.nan, m.translate(case.vols['a'], case.mask, 'a2b'))
              for k, m in methods.items()]
    scans += [('adversary', *row) for row in spoiled(case, scan, rng)]
    for group, kind, strength, size, out in scans:
        for truth in ([None, case.vols['b']] if 'b' in case.vols else [None]):
            yield dict(data=data, subject=case.id, group=group, kind=kind, strength=strength, size=size,
                       truth=truth is not None, **figures(case, out, truth))


def masked(case):
    "A case with nothing outside the brain"
    case.vols = {k: np.where(case.mask, v, 0).astype(np.float32) for k, v in case.vols.items()}
    return case


def simulated(n):
    "Simulated cases, their true scans and the fitted honest methods"
    cases = [masked(simulated_case(7000 + k)) for k in range(n)]
    others = [simulated_case(7050 + k, sites='b', rescan=False) for k in range(n)]
    pairs = [(c.vols['a'], c.mask) for c in cases], [(c.vols['b'], c.mask) for c in others]
    kinds = (HistogramMatching, Nyul, JointToneMapBaseline)
    methods = {k.name: k().fit(*pairs) for k in kinds}
    for case in cases: yield case, case.vols['b'], methods


def real(n):
    "Real cases at 2 mm and a monotone map of each sequence"
    root = shared_data()
    if root is None:
        print('The real scans are not here: skipped.')
        return
    for subject in [s for site in ('tcga', 'upenn') for s in find_subjects(root/'two_sites'/site)
                    if s.complete][:n]:
        vol, mask = load_pair(subject)
        seg = np.asarray(subject.load_seg().dataobj)[::2, ::2, ::2]
        mask = mask[::2, ::2, ::2]
        vol = ndi.uniform_filter(vol, (0, 2, 2, 2))[:, ::2, ::2, ::2]*mask
        vol /= np.percentile(vol[:, mask], 99.5, axis=1)[:, None, None, None]
        affine = subject.load('t1').affine@np.diag([2, 2, 2, 1])
        case = LesionCase(subject.id, dict(a=vol.astype(np.float32)), dict(a=mask), seg, affine)
        yield case, np.clip(case.vols['a'], 0, None)**.8, {}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--simulated', type=int, default=N, help='patients')
    parser.add_argument('--real', type=int, default=N, help='patients')
    args = parser.parse_args()
    for data, cases in (('simulated', simulated(args.simulated)), ('real', real(args.real))):
        for case, scan, methods in cases:
            done = pd.read_csv(RESULTS) if RESULTS.exists() else pd.DataFrame(dict(subject=[]))
            if case.id in set(done.subject): continue
            rows = pd.DataFrame(patient_rows(case, scan, data, methods))
            pd.concat([done, rows]).to_csv(RESULTS, index=False, float_format='%.4g')
            print(data, case.id, flush=True)


if __name__ == '__main__': main()
