#!/usr/bin/env python
"""Does harmonization help a segmentation that was trained at the other hospital?

A small U-Net (`neuroscope.evaluation.downstream`) learns lesions on the real scans of one site's
training patients. It segments the other site's patients of the fold left out: as scanned, and
harmonized by each method, all of them fitted on training patients. Beside it stands a network of
the same kind that was trained at the patient's own site. Scans are means of 2 mm blocks.

With `--seeds N` so many networks that differ in their random start are trained each time, and a
patient's figure is their mean. Folds and patients are those of `real_cohort.py`. Each fold is
stored when it is done, and a run that was stopped goes on after the last one.

    python benchmarks/real_cohort.py --segmentation     # or this file by itself
"""
import argparse
import json
import time
from pathlib import Path

import numpy as np
import pandas as pd

from neuroscope.core import find_subjects, shared_data
from neuroscope.evaluation.histograms import HistogramMatching
from neuroscope.evaluation.methods import Identity
from neuroscope.evaluation.landmarks import Nyul
from neuroscope.evaluation.downstream import PARTS, axial_slices, dice, segment, train_lesion_net
from neuroscope.models.site_match import apply_site_match, fit_site_match
from neuroscope.models.site_looks import summarize_scan
from real_cohort import DIRECTIONS, FOLDERS, FOLDS, RESULTS, fold_of, read, thinned

SPACING = 2
AFFINE = np.diag([SPACING, SPACING, SPACING, 1.])
SEEDS = 1          # networks a site and fold
STORE = RESULTS/'real_cohort_segmentation_2mm.json'


def harmonized(scans, train, test, direction):
    "Method -> what it makes of each test patient, fitted on the training patients"
    match = fit_site_match(*([summarize_scan(i, *scans[k, i]) for i in train[k]] for k in 'ab'))
    thin = {k: [thinned(*scans[k, i][:2]) for i in train[k]] for k in 'ab'}
    plain = {m.name: m.fit(thin['a'], thin['b']) for m in (Identity(), Nyul(), HistogramMatching())}
    out = {name: {i: m.translate(*scans[direction[0], i][:2], direction) for i in test}
           for name, m in plain.items()}
    out['site_match'] = {}
    for i in test:
        vol, mask, seg = scans[direction[0], i]
        out['site_match'][i] = apply_site_match(match, vol, mask, direction, seg)[0]
    return out


def scores(net, vol, mask, seg):
    "Dice of each part of the lesion; None where the patient has none"
    x, y = axial_slices(vol, mask, AFFINE, seg)
    found = segment(net, x)
    truth = np.stack([y > 0, y == 2])
    return [dice(f, t) if t.any() else None for f, t in zip(found, truth)]


def mean_scores(nets, vol, mask, seg):
    "Mean Dice over networks"
    each = [scores(net, vol, mask, seg) for net in nets]
    return [None if column[0] is None else float(np.mean(column)) for column in zip(*each)]


def networks(scans, site, train, seeds):
    "One network for each random start, trained on real scans of a site"
    slices = [axial_slices(vol, mask, AFFINE, seg)
              for vol, mask, seg in (scans[site, i] for i in train)]
    return [train_lesion_net(slices, seed=seed) for seed in range(seeds)]


def one_fold(scans, names, fold, seeds):
    "Dice of each method on each patient of a fold, in both directions"
    train = {k: [i for i in range(len(names[k])) if fold_of(i) != fold] for k in names}
    nets = {k: networks(scans, k, train[k], seeds) for k in names}
    rows = {}
    for direction in DIRECTIONS:
        source = direction[0]
        target = direction[-1]
        test = [i for i in range(len(names[source])) if fold_of(i) == fold]
        for method, made in harmonized(scans, train, test, direction).items():
            for i in test:
                found = mean_scores(nets[target], made[i], *scans[source, i][1:])
                rows.setdefault(names[source][i],
                                dict(direction=direction, seeds=seeds,
                                     dice={}))['dice'][method] = found
        for i in test:
            vol, mask, seg = scans[source, i]
            rows[names[source][i]]['dice']['own_site'] = mean_scores(nets[source], vol, mask, seg)
    return rows


def measure(data, seeds=SEEDS, store=STORE):
    "All folds that are not stored yet"
    people = {k: [s for f in FOLDERS[k] for s in find_subjects(data/f)] for k in FOLDERS}
    names = {k: [s.id for s in people[k]] for k in people}
    done = json.loads(store.read_text()) if store.exists() else {}
    todo = [fold for fold in range(FOLDS) if any(names[k][i] not in done for k in names
                                                 for i in range(fold, len(names[k]), FOLDS))]
    scans = {(k, i): read(s, SPACING) for k in people
             for i, s in enumerate(people[k])} if todo else {}
    for fold in todo:
        done |= one_fold(scans, names, fold, seeds)
        store.write_text(json.dumps(done, indent=1))
        print(f'fold {fold}: {time.process_time():.0f} CPU seconds so far', flush=True)
    return done


def table(done):
    "Tidy: direction, subject, method, part, dice"
    rows = [(r['direction'], subject, method, part, value) for subject, r in done.items()
            for method, values in r['dice'].items()
            for part, value in zip(PARTS, values) if value is not None]
    return pd.DataFrame(rows, columns=['direction', 'subject', 'method', 'part', 'dice'])


def show(done):
    "Mean over patients, and the patients that lose and gain most against the raw scan"
    rows = table(done)
    print('\nDice of a network trained at the other site, mean over patients left out, 2 mm')
    print(rows.pivot_table(index=['direction', 'part'], columns='method', values='dice',
                           sort=False).round(3).to_string())
    wide = rows.pivot_table(index=['direction', 'part', 'subject'], columns='method', values='dice',
                            sort=False)
    gain = wide.sub(wide.identity, axis=0).drop(columns=['identity', 'own_site'])
    print('\nGain over the raw scan: smallest, mean and largest over patients')
    print(gain.groupby(['direction', 'part'],
                       sort=False).agg(['min', 'mean', 'max', 'count']).round(3).to_string())


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', type=Path, default=shared_data(),
                        help='folder with two_sites/ and glioma/')
    parser.add_argument('--seeds', type=int, default=SEEDS, help='networks a site and fold')
    args = parser.parse_args()
    if args.data is None: parser.error('no real scans here; name their folder with --data')
    show(measure(args.data, args.seeds))


if __name__ == '__main__': main()
