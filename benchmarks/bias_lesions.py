#!/usr/bin/env python
"""What N4 does to the contrast of real lesions: everything in the fit, the lesion out of it, bright tails out of it.

Real glioma patients beside the project (`neuroscope.core.shared_data`), every second voxel in each direction. One table is written,
`bias_lesions.csv`, a row a sequence and way; the notebook on lesions and the bias field reads it. It takes some minutes on one core.
"""
import argparse, sys, time
from pathlib import Path

import numpy as np
import pandas as pd

from neuroscope.core import SEQUENCES, find_subjects, image_data, shared_data
from neuroscope.preprocessing.bias_correction import N4BiasFieldCorrection
from neuroscope.imaging.scans import ScanSet
from neuroscope.preprocessing.bias_lesions import LEAST_GAIN, fit_region, gain_in_evenness, near
from neuroscope.imaging.brain import brain_mask

RESULTS = Path(__file__).parent/'results'
COHORTS = dict(upenn='two_sites/upenn', tcga='two_sites/tcga', lgg='glioma')

def contrast(x, lesion, normal):
    "Median of the lesion over that of normal tissue, less one; and in standard deviations of normal tissue"
    middle = np.median(x[normal])
    return float(np.median(x[lesion])/middle - 1), float(
        (np.median(x[lesion]) - middle)/x[normal].std())

def patient(subject):
    "The scans and the lesion of a patient, every second voxel"
    def half(o): return o.slicer[::2, ::2, ::2]
    return {q: half(subject.load(q)) for q in SEQUENCES}, image_data(half(subject.load_seg())) > 0

def measure(subject, site):
    "A row for each sequence and way"
    scans,lesion = patient(subject)
    brain = brain_mask(scans)
    normal = brain & ~near(lesion, scans['t1'].header.get_zooms()[:3], 6.)
    marked = ScanSet.of(scans, brain, lesion)
    regions = dict(all=fit_region(marked, exclude=False), mask=fit_region(marked),
                   tails=fit_region(ScanSet.of(scans, brain)))
    for q,img in scans.items():
        x = image_data(img)
        use = normal & (image_data(img) > 0)
        before,before_sd = contrast(x, lesion, use)
        for how,region in regions.items():
            fixed,field = N4BiasFieldCorrection().correct_volume(img, brain, region.out)
            y = image_data(fixed)
            after,after_sd = contrast(y, lesion, use)
            gain = gain_in_evenness(x, y, region.white, scans['t1'].header.get_zooms()[:3])
            inside = image_data(field)[brain]
            yield dict(site=site, patient=subject.id, sequence=q, how=how, before=before,
                       after=after, before_sd=before_sd, after_sd=after_sd,
                       field_cv=inside.std()/inside.mean(), gain=gain,
                       kept=gain is None or gain >= LEAST_GAIN)

def main():
    argparse.ArgumentParser(description=__doc__,
                            formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    root = shared_data()
    start = time.process_time()
    rows = []
    if root is None: sys.exit('there are no real scans here')
    for site,folder in COHORTS.items():
        for subject in find_subjects(root/folder): rows += measure(subject, site)
    pd.DataFrame(rows).to_csv(RESULTS/'bias_lesions.csv', index=False, float_format='%.4g')
    print(f'{len(rows)} rows in {time.process_time()-start:.0f} s of processor time')

if __name__=='__main__': main()
