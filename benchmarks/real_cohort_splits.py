#!/usr/bin/env python
"""How near healthy tissue comes to patients of the other site that no fit has seen, over many random splits.

Three folds of five patients leave one or two to compare with, and what two patients are like is mostly chance. Here the same patients are
dealt anew again and again: two thirds of each site are fitted on, and the others are translated and compared with. Of every patient some
voxels of each tissue are kept, so that a split takes a second. The maps are compared as maps of grey values alone: what the site match adds
to its curve (a filter, and a shift of each tissue) takes no part. The splits share patients, so their spread is not a standard error.

    python benchmarks/real_cohort_splits.py              # 100 splits at 2 mm, some minutes
"""
import argparse
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd

from neuroscope.core import SEQUENCES, find_subjects, progress_bar, shared_data
from neuroscope.evaluation.histograms import HistogramMatching
from neuroscope.evaluation.methods import Identity
from neuroscope.evaluation.landmarks import Nyul
from neuroscope.imaging.tissues import TISSUES, tissue_codes
from neuroscope.models.site_looks import site_look, tone_curve
from neuroscope.models.site_looks import summarize_scan
from real_cohort import DIRECTIONS, FOLDERS, RESULTS, read, thinned

MOST_VOXELS = 20_000


def voxels(subject, factor):
    "A patient's summary, some voxels of the brain in a row, and the tissue of each"
    vol, mask, seg = read(subject, factor)
    codes = tissue_codes(vol, mask, seg)
    values, inside = thinned(vol, mask, MOST_VOXELS)
    row = codes[mask]
    row = row[::max(1, len(row)//MOST_VOXELS)]
    return summarize_scan(subject.id, vol, mask, seg), values, inside, row


def medians(values, row):
    "Median of each healthy tissue in each sequence: (4, 3)"
    return np.array([[np.median(v[row == k]) for k in (1, 2, 3)] for v in values[:, :, 0, 0]])


def deal(people, random):
    "Two lists: two thirds of the patients, and the others"
    order = random.permutation(len(people))
    left_out = -(-len(people)//3)
    return [people[i] for i in order[left_out:]], [people[i] for i in order[:left_out]]


def matched(person, look):
    "A patient's voxels after the curve of the site match"
    summary, values, *_ = person
    return np.stack([tone_curve(summary, look, q)(values[q]) for q in range(len(values))])


def one_split(split, cohorts, random):
    "Rows: split, direction, method, sequence, tissue, mean distance over the patients left out"
    dealt = {k: deal(people, random) for k, people in cohorts.items()}
    fitted = {k: [(p[1], p[2]) for p in train] for k, (train, _) in dealt.items()}
    # a list of (voxels, mask) a site is what the baselines take
    plain = {m.name: m.fit(fitted['a'], fitted['b'])
             for m in (Identity(), Nyul(), HistogramMatching())}
    rows = []
    for direction in DIRECTIONS:
        train = dealt[direction[-1]][0]
        real = np.mean([medians(p[1], p[3]) for p in dealt[direction[-1]][1]], axis=0)
        look = site_look([p[0] for p in train])
        ends = dict(floor=[np.mean([medians(p[1], p[3]) for p in train], axis=0)])
        for person in dealt[direction[0]][1]:
            for name, method in plain.items():
                out = method.translate(person[1], person[2], direction)
                ends.setdefault(name, []).append(medians(out, person[3]))
            ends.setdefault('site_match', []).append(medians(matched(person, look), person[3]))
        for name, found in ends.items():
            gap = np.abs(np.array(found) - real).mean(0)
            rows += [(split, direction, name, s, t, gap[q, j])
                     for q, s in enumerate(SEQUENCES) for j, t in enumerate(TISSUES)]
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', type=Path, default=shared_data(),
                        help='folder with two_sites/ and glioma/')
    parser.add_argument('--spacing', type=int, default=2, help='mm; the scans have 1')
    parser.add_argument('--splits', type=int, default=100, help='random splits')
    args = parser.parse_args()
    if args.data is None: parser.error('no real scans here; name their folder with --data')
    start = time.process_time()
    people = {k: [s for f in FOLDERS[k] for s in find_subjects(args.data/f)] for k in FOLDERS}
    cohorts = {k: [voxels(s, args.spacing) for s in progress_bar(p, f'reading site {k}')]
               for k, p in people.items()}
    random = np.random.default_rng(0)
    rows = [row for split in progress_bar(range(args.splits), 'splits')
            for row in one_split(split, cohorts, random)]
    table = pd.DataFrame(rows, columns=['split', 'direction', 'method', 'sequence', 'tissue',
                                        'distance'])
    means = table.groupby(['direction', 'method', 'sequence', 'tissue'], sort=False)
    means = means.distance.agg(['mean', 'std']).round(4).reset_index()
    means['splits'] = args.splits
    means.to_csv(RESULTS/'real_cohort_splits.csv', index=False)
    print(means.pivot_table(index=['direction', 'method'], columns=['sequence', 'tissue'],
                            values='mean', sort=False).round(3).to_string())
    whole = table.groupby(['split', 'direction', 'method']).distance.mean().unstack()
    print(whole.groupby('direction').mean().round(4).to_string())
    nearer = (whole.site_match < whole[['nyul', 'histogram_matching']].min(axis=1))
    print('share of splits where the site match is nearer than either:',
          nearer.groupby('direction').mean().round(2).to_dict())
    print(f'{time.process_time() - start:.0f} CPU s on {os.cpu_count()} cores; '
          f'wrote {RESULTS/"real_cohort_splits.csv"}')


if __name__ == '__main__': main()
