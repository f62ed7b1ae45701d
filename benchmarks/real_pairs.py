#!/usr/bin/env python
"""One real pair and one real rescan, through the commands, judged against the true scan by tissue.

The scans are public (open_ms_data: two people with multiple sclerosis, T1, T2 and FLAIR, no T1ce)
and lie beside the project, not in it; see the page "Real pairs". One person was scanned under two
protocols, the other twice under the second of them. So there is one truth for one harmonization,
and one rescan that says what noise, position and days alone do.

Two trials, each fitted without the true scan:

- `two protocols`: the first person's first visit is brought to the look of the other person's
  scan. The truth is the first person's second visit.
- `one protocol`: the other person's first visit is brought to the look of the first person's
  second visit, which is of the same protocol. The truth is the rescan. Doing nothing is right.

    python benchmarks/real_pairs.py --work FOLDER    # measure what is missing, print the tables
    python benchmarks/real_pairs.py --stored         # print the tables of the stored figures
"""
import argparse
from pathlib import Path

import pandas as pd

from neuroscope.cli import evaluate, preprocess_volumes, train_cyclegan, translate
from neuroscope.core import shared_data
from neuroscope.models.site_match import load_site_match, save_site_match

RESULTS = Path(__file__).parent/'results'/'real_pairs.csv'
VISITS = dict(first=('ms_patient01', 1), second=('ms_patient01', 2),
              other=('ms_patient12', 1), other_again=('ms_patient12', 2))
TRIALS = {'two protocols': dict(source='first', target='other', truth='second', rescan='other_again'),
          'one protocol': dict(source='other', target='second', truth='other_again')}
BASELINES = ('identity', 'nyul', 'histogram_matching')
SEQUENCES = ('t1', 't2', 'flair')


def link_visits(data, work):
    "A folder for each visit, in which the person has a name of its own"
    for visit, (person, number) in VISITS.items():
        folder = work/'raw'/visit
        folder.mkdir(parents=True, exist_ok=True)
        for scan in (data/'wholehead'/person).glob(f'study{number}_*.nii.gz'):
            link = folder/scan.name.replace(f'study{number}', person)
            if not link.exists(): link.symlink_to(scan)


def make_it_change(folder):
    "Tell a model to change every sequence, which it would not do with one patient of a site"
    model = load_site_match(folder)
    model.choice = {direction: dict.fromkeys(model.sequences, 'matched') for direction in model.choice}
    save_site_match(model, folder)


def checked(status, what):
    "Stop where a command says that it failed"
    if status: raise SystemExit(f'{what} ended with status {status}')


def preprocess(work):
    "First visits to the atlas, then the others onto the grid of the same person's"
    for visit, onto in dict(second=None, other=None, first='second', other_again='other').items():
        person = VISITS[visit][0]
        atlas = f'{work}/study/{onto}/{person}/{person}_T1W.nii.gz' if onto else 'mni152'
        command = ['--input-dir', f'{work}/raw/{visit}', '--output-dir', f'{work}/study/{visit}',
                   '--require', *SEQUENCES, '--skull-strip', '--register', atlas]
        checked(preprocess_volumes.main(command), f'preprocess of {visit}')


def harmonize(work, name, source, target):
    "Fit to one scan of each protocol, without the truth, and bring the source over"
    root = work/name.replace(' ', '_')
    for site, visit in dict(site_a=source, site_b=target).items():
        link = root/'pair'/site
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists(): link.symlink_to((work/'study'/visit).resolve())
    if not (root/'checkpoints'/'pair'/'config.json').exists():
        checked(train_cyclegan.main(['--data-root', f'{root}/pair', '--preset', 'fast', '--name', 'pair',
                                     '--checkpoints-dir', f'{root}/checkpoints']), 'train')
    make_it_change(f'{root}/checkpoints/pair')
    checked(translate.main(['--model', f'{root}/checkpoints/pair', '--input-dir', f'{root}/pair/site_a',
                            '--output-dir', f'{root}/harmonized']), 'translate')
    return root


def judge(work, name, source, target, truth, rescan=None):
    "Figures of one trial: against the truth, by tissue and by sequence"
    root = harmonize(work, name, source, target)
    command = ['--source', f'{work}/study/{source}', '--harmonized', f'{root}/harmonized',
               '--target', f'{work}/study/{target}', '--truth', f'{work}/study/{truth}',
               '--output-dir', f'{root}/evaluation', '--no-radiomics']
    if rescan: command += ['--rescan', f'{work}/study/{rescan}']
    for baseline in BASELINES: command += ['--baseline', baseline]
    if not (root/'evaluation'/'tissues.csv').exists():
        checked(evaluate.main(command), 'evaluate')
    tissues = pd.read_csv(root/'evaluation'/'tissues.csv')
    images = pd.read_csv(root/'evaluation'/'metrics.csv').assign(tissue='brain')
    rows = pd.concat([tissues[tissues.metric.isin(['error', 'spread', 'to_target'])],
                      images[images.metric.isin(['psnr', 'ssim'])]])
    rows = rows[~rows.method.isin(['source', 'truth', 'target'])]
    columns = ['subject', 'method', 'sequence', 'tissue', 'metric', 'value']
    return rows[columns].assign(trial=name)


def show(table):
    "The tables on the terminal"
    error = table[table.metric == 'error'].assign(value=lambda t: t.value.abs())
    for trial in TRIALS:
        print(f'\n{trial}: distance of the mean grey value of each tissue from the true scan')
        print(wide(error, trial, ['sequence', 'tissue']).round(3).to_string())
        print(f'{trial}: PSNR in dB and SSIM against the true scan')
        both = table[table.metric.isin(['psnr', 'ssim'])]
        print(wide(both, trial, ['metric', 'sequence']).round(3).to_string())


def wide(table, trial, columns):
    "One trial: a row a method, with the mean over the columns at the end where they are tissues"
    rows = table[table.trial == trial]
    out = rows.pivot_table(index='method', columns=columns, values='value', sort=False)
    if 'tissue' in columns: out['mean', ''] = out.mean(axis=1)
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', type=Path, default=shared_data(), help='folder with wholehead/')
    parser.add_argument('--work', type=Path, default=Path('real_pairs'), help='for scans made on the way')
    parser.add_argument('--stored', action='store_true', help='measure nothing, print what is stored')
    args = parser.parse_args()
    if not args.stored:
        if args.data is None: parser.error('no real scans here; name their folder with --data')
        link_visits(args.data, args.work)
        preprocess(args.work)
        tables = [judge(args.work, name, **visits) for name, visits in TRIALS.items()]
        pd.concat(tables).to_csv(RESULTS, index=False, float_format='%.5g')
    show(pd.read_csv(RESULTS))


if __name__ == '__main__': main()
