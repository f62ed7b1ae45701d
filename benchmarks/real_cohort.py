#!/usr/bin/env python
"""Harmonization of two real sites, judged by tissue on patients that took no part in the fit.

The scans are public (BraTS 2018's patients of the University of Pennsylvania, and TCGA's) and lie beside the project, not in it; see the page
"A real cohort". Patients are dealt into folds, at each site by itself. Every method is fitted on the patients of the other folds, of both
sites, and applied to those of this one, in both directions.

What is measured of each patient and method: the median of each tissue and lesion part in each sequence, and features of a site classifier.
Tissues are those of the source scan, found once. Results of a patient are stored, so that a run that was stopped goes on.

    python benchmarks/real_cohort.py                 # measure what is missing, and print the tables
    python benchmarks/real_cohort.py --spacing 2     # on a coarser grid, in a fraction of the time
    python benchmarks/real_cohort.py --segmentation  # a segmentation across the sites, by itself
"""
import argparse
import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.ndimage import binary_erosion

from neuroscope.core import (SEQUENCES, find_subjects, image_data, peak_mb, shared_data,
                             stack_sequences)
from neuroscope.evaluation.histograms import HistogramMatching
from neuroscope.evaluation.methods import Identity
from neuroscope.evaluation.landmarks import Nyul
from neuroscope.imaging.sharpness import inner_healthy, neighbour_difference
from neuroscope.imaging.tissues import ALL_TISSUES, TISSUES, tissue_codes, tissue_medians
from neuroscope.models.site_match import apply_site_match, fit_site_match
from neuroscope.models.site_looks import summarize_scan
from neuroscope.preprocessing.slices import to_ras
from neuroscope.imaging.brain import subject_mask
from neuroscope.utils import normalize_sequences

RESULTS = Path(__file__).parent/'results'
FOLDERS = dict(a=('two_sites/upenn',), b=('two_sites/tcga', 'glioma'))
DIRECTIONS = dict(a2b='UPenn to TCGA', b2a='TCGA to UPenn')
FOLDS = 3


def coarser(volume, factor):
    "Means of blocks, along the last three axes"
    if factor == 1: return volume
    n = [s - s % factor for s in volume.shape[-3:]]
    cut = volume[..., :n[0], :n[1], :n[2]]
    blocks = cut.reshape(*cut.shape[:-3], n[0]//factor, factor, n[1]//factor, factor, n[2]//factor,
                         factor)
    return blocks.mean((-5, -3, -1))


def read(subject, factor):
    "A patient's scans on the scale of their percentiles, brain mask and lesion labels"
    images = subject.load_all()
    affine = images['t1'].affine
    vol = to_ras(stack_sequences(images).astype(np.float32), affine)
    mask = to_ras(subject_mask(subject, images), affine)
    seg = to_ras(image_data(subject.load_seg(), None), affine).astype(np.uint8)
    if factor > 1:
        share = coarser(mask.astype(np.float32), factor)
        vol = coarser(vol*mask, factor)/np.maximum(share, 1e-6)
        labels = np.unique(seg)
        seg = labels[np.stack([coarser((seg == v).astype(np.float32), factor)
                               for v in labels]).argmax(0)]
        mask = share > .5
    box = tuple(slice(i.min(), i.max() + 1) for i in np.nonzero(mask))
    vol = vol[(slice(None), *box)]
    mask = mask[box]
    seg = seg[box]
    return normalize_sequences(vol, mask)[0], mask, seg


def features(vol, mask, codes):
    "What tells sites apart: differences of neighbours along each axis, and intensities, over the brain's median"
    found = []
    inside = inner_healthy(codes)
    healthy = (codes > 0) & (codes <= len(TISSUES))
    for image in vol:
        scaled = image/np.median(image[mask])
        steps = [neighbour_difference(scaled, inside, axis) for axis in range(3)]
        medians = [np.median(scaled[codes == k]) for k in (1, 2, 3)]
        found += [np.log(steps[2]), np.log(np.mean(steps[:2])), steps[2]/np.mean(steps[:2]),
                  np.percentile(scaled[healthy], 98), *medians]
    return found


def fold_of(i): return i % FOLDS


def measure(cohorts, factor, store, again=False):
    "Measure every method on every patient that is not in the store yet, or the site match on all of them"
    done = json.loads(store.read_text()) if store.exists() else {}
    old = done if again else {}
    if again: done = {}
    people = {k: [s for f in FOLDERS[k] for s in find_subjects(cohorts/f)] for k in FOLDERS}
    summaries = {}
    pairs = {}
    def scan(k, i):
        if (k, i) not in pairs: pairs[k, i] = read(people[k][i], factor)
        return pairs[k, i]
    for k in people:
        for i, subject in enumerate(people[k]):
            summaries[k, i] = summarize_scan(subject.id, *scan(k, i))
            if factor == 1: pairs.pop((k, i))
    for fold in range(FOLDS):
        todo = [(k, i) for k in people
                for i in range(len(people[k])) if fold_of(i) == fold
                and people[k][i].id not in done]
        if not todo: continue
        train = {k: [i for i in range(len(people[k])) if fold_of(i) != fold] for k in people}
        match = fit_site_match(*([summaries[k, i] for i in train[k]] for k in 'ab'))
        print(f'fold {fold}:', match.choice, match.remarks, flush=True)
        thin = {} if again else {k: [thinned(*scan(k, i)[:2]) for i in train[k]] for k in people}
        plain = {} if again else {m.name: m.fit(thin['a'], thin['b'])
                                  for m in (Identity(), Nyul(), HistogramMatching())}
        for k, i in todo:
            before = old.get(people[k][i].id, {}).get('methods', {})
            new = measure_one(scan(k, i), f'{k}2{"b" if k == "a" else "a"}', plain, match)
            done[people[k][i].id] = dict(site=k, fold=fold, methods=before | new['methods'])
            store.write_text(json.dumps(old | done))
            print(people[k][i].id, f'peak {peak_mb():.0f} MB', flush=True)
        if factor == 1: pairs.clear()
    return done


def thinned(vol, mask, most=400_000):
    "Voxels of a brain in a row, as the baselines take them"
    values = vol[:, mask]
    values = values[:, ::max(1, values.shape[1]//most)]
    return np.ascontiguousarray(values)[:, :, None, None], np.ones((values.shape[1], 1, 1), bool)


def measure_one(scan, direction, plain, match):
    "Medians, features and seconds of each method on one patient"
    vol, mask, seg = scan
    codes = tissue_codes(vol, mask, seg)
    rows = {}
    for name, method in (plain | dict(site_match=match)).items():
        start = time.process_time()
        done = {}
        if name == 'site_match': out, done = apply_site_match(match, vol, mask, direction, seg)
        else: out = method.translate(vol, mask, direction)
        rows[name] = dict(medians=tissue_medians(out, codes).tolist(),
                          features=np.array(features(out, mask, codes), float).tolist(),
                          seconds=time.process_time() - start, done=done)
    return dict(methods=rows)


def distances(done):
    "Mean distance of tissue medians to the target site's, by direction, method, tissue and sequence"
    rows = []
    for direction in DIRECTIONS:
        source = direction[0]
        target = direction[-1]
        real = np.nanmean([r['methods']['identity']['medians']
                           for r in done.values() if r['site'] == target], axis=0)
        for id, r in done.items():
            if r['site'] != source: continue
            for method, m in r['methods'].items():
                gap = np.abs(np.array(m['medians'], float) - real)
                rows += [(direction, id, method, s, t, gap[q, j]) for q, s in enumerate(SEQUENCES)
                         for j, t in enumerate(TISSUES)]
    return pd.DataFrame(
        rows, columns=['direction', 'subject', 'method', 'sequence', 'tissue', 'distance'])


def contrasts(done):
    "Contrast of each lesion part to white matter, by direction, patient, method and sequence"
    rows = []
    for id, r in done.items():
        for method, m in r['methods'].items():
            medians = np.array(m['medians'], float)
            for j, part in enumerate(ALL_TISSUES[3:], start=3):
                rows += [(f"{r['site']}2{'b' if r['site'] == 'a' else 'a'}", id, method, s, part,
                          medians[q, j] - medians[q, 2]) for q, s in enumerate(SEQUENCES)]
    return pd.DataFrame(rows, columns=['direction', 'subject', 'method', 'sequence', 'part',
                                       'contrast']).dropna()


def classifier():
    "A logistic regression on standardized features"
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    return make_pipeline(StandardScaler(),
                         LogisticRegression(C=.1, class_weight='balanced', max_iter=1000))


def balanced(figures, label):
    "Balanced accuracy, each patient judged by a classifier trained on the others"
    said = np.array(
        [classifier().fit(np.delete(figures, i, 0), np.delete(label, i)).predict(figures[i:i+1])[0]
         for i in range(len(label))])
    return np.mean([(said[label == k] == k).mean() for k in (0, 1)])


def told_apart(done, permutations=200):
    "How well a classifier, trained anew, tells harmonized scans from the target's real ones"
    rows = []
    for direction in DIRECTIONS:
        real = [r['methods']['identity']['features']
                for r in done.values() if r['site'] == direction[-1]]
        for method in next(iter(done.values()))['methods']:
            made = [r['methods'][method]['features']
                    for r in done.values() if r['site'] == direction[0]]
            figures = np.array(made + real)
            label = np.repeat([0, 1], [len(made), len(real)])
            value = balanced(figures, label)
            random = np.random.default_rng(0)
            null = [balanced(figures, random.permutation(label)) for _ in range(permutations)]
            chance = np.nan
            p = np.nan
            if null:
                chance = float(np.quantile(null, .95))
                p = (1 + np.sum(np.array(null) >= value - 1e-9))/(1 + permutations)
            rows.append((direction, method, value, chance, p))
    return pd.DataFrame(
        rows, columns=['direction', 'method', 'balanced accuracy', '95 % of chance', 'p'])


def kept(table, floor=.03):
    "Lesion contrast over that of Nyúl's map: smallest and largest over patients, where Nyúl's shows one"
    wide = table.pivot_table(index=['direction', 'sequence', 'part', 'subject'], columns='method',
                             values='contrast')
    wide = wide[wide.nyul.abs() > floor]
    ratio = wide.div(wide.nyul, axis=0).groupby(['direction', 'sequence', 'part'], sort=False)
    return pd.concat({name: ratio[name].agg(['min', 'median', 'max', 'count'])
                      for name in ('site_match', 'histogram_matching', 'identity')}, axis=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', type=Path, default=shared_data(),
                        help='folder with two_sites/ and glioma/')
    parser.add_argument('--spacing', type=int, default=1, help='mm; the scans have 1')
    parser.add_argument('--store', type=Path,
                        help='file for what was measured (default: in benchmarks/results)')
    parser.add_argument('--again', action='store_true',
                        help='measure the site match anew, and keep the rest')
    parser.add_argument('--permutations', type=int, default=200,
                        help='of the site labels, for the classifier')
    parser.add_argument('--segmentation', action='store_true',
                        help='measure a lesion segmentation across the sites, and nothing else')
    args = parser.parse_args()
    if args.data is None: parser.error('no real scans here; name their folder with --data')
    if args.segmentation:
        import real_cohort_segmentation
        return real_cohort_segmentation.show(real_cohort_segmentation.measure(args.data))
    store = args.store or RESULTS/f'real_cohort_{args.spacing}mm.json'
    done = measure(args.data, args.spacing, store, args.again)
    table = distances(done)
    print('\nDistance of tissue medians to the target site, normalized units, mean '
          'over patients left out')
    print(table.pivot_table(index=['direction', 'method'], columns=['sequence', 'tissue'],
                            values='distance', sort=False).round(3).to_string())
    print(table.groupby(['direction', 'method'], sort=False).distance.mean().round(4).to_string())
    print('\nLesion contrast over what Nyul\'s map gives, over patients')
    print(kept(contrasts(done)).round(2).to_string())
    print('\nSite classifier, trained anew')
    print(told_apart(done, args.permutations).round(3).to_string(index=False))
    seconds = pd.DataFrame(
        [{m: v['seconds'] for m, v in r['methods'].items()} for r in done.values()])
    print('\nCPU seconds a patient:', seconds.mean().round(1).to_dict())


if __name__ == '__main__': main()
