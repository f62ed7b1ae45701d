#!/usr/bin/env python
"""Rigid registration by neuroscope and by SimpleITK, on the same simulated pairs, with the truth known.

Each pair is T1, T2 or FLAIR of a simulated patient who has moved by up to 20 degrees and 20 mm, and is registered to T1ce.
Three ways are compared, each on one thread, in this order for each pair:

- `SimpleITK, fair`: mutual information, three resolutions, a tenth of the finest voxels and more of the coarser ones, steps
  scaled from physical shift, started from the images' moments, and the metric's gradient filter off. The filter smooths over several voxels, and the descent
  then stops early.
- `neuroscope, one way`: `align` without a search for the start, which is the same task.
- `neuroscope`: `MRIRegistration.match`, as a user calls it: with a search, in both directions, and with a verdict.

Compare processor seconds, and ratios of one run. `--filter` adds SimpleITK with its gradient filter on, its default.
"""
import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk

from neuroscope.core import image_data, new_like, to_sitk
from neuroscope.imaging.alignment import align, first_guesses, pyramid
from neuroscope.imaging.transforms import brain_points, mean_displacement, to_matrix
from neuroscope.preprocessing import MRIRegistration
from neuroscope.simulate import scan, simulate_subject
from neuroscope.testing import moved_scan, random_move

RESULTS = Path(__file__).parent/'results'
FIRST_SEED = 300
SEQUENCES = ('t1', 't2', 'flair')

def by_simpleitk(fixed, moving, gradient_filter=False):
    "The matrix of a rigid registration by SimpleITK with an ordinary pyramid"
    images = [to_sitk(new_like(img, image_data(img))) for img in (fixed, moving)]
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricUseFixedImageGradientFilter(gradient_filter)
    method.SetMetricUseMovingImageGradientFilter(gradient_filter)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentagePerLevel([1., .3, .1], seed=1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([4., 2., 0.])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    # its tolerance of the gradient would stop it at the start
    method.SetOptimizerAsRegularStepGradientDescent(2., 1e-3, 200, relaxationFactor=.7,
                                                    gradientMagnitudeTolerance=1e-10)
    method.SetOptimizerScalesFromPhysicalShift()
    moments = sitk.CenteredTransformInitializerFilter.MOMENTS
    start = sitk.CenteredTransformInitializer(*images, sitk.Euler3DTransform(), moments)
    method.SetInitialTransform(start, inPlace=False)
    return to_matrix(method.Execute(*images))

def one_way(fixed, moving):
    "The matrix of the library's search, without a search for the start"
    levels = [pyramid(img) for img in (fixed, moving)]
    guesses = first_guesses(levels[0][0], levels[1][0], search=0)
    return align(*levels, guesses=guesses)[0]

def as_used(fixed, moving):
    "The matrix that a user gets"
    return MRIRegistration(on_failure='return').match(fixed, moving)[0]

WAYS = {'SimpleITK, fair': by_simpleitk, 'neuroscope, one way': one_way, 'neuroscope': as_used}

def trials(n_patients, spacing, ways):
    "A row for each pair and way"
    rng = np.random.default_rng(0)
    for number in range(n_patients):
        images = scan(simulate_subject(FIRST_SEED+number, spacing=spacing), 'ab'[number % 2])
        points = brain_points(images['t1ce'])
        for sequence in SEQUENCES:
            truth = random_move(rng, 'rigid', points.mean(0))
            moved = moved_scan(images[sequence], truth, spacing, 110)
            for way, register in ways.items():
                start = time.process_time()
                matrix = register(images['t1ce'], moved)
                seconds = time.process_time() - start
                error = mean_displacement(matrix, truth, points)
                yield dict(way=way, spacing=spacing, patient=number, sequence=sequence,
                           error=error, seconds=seconds)

def summary(rows):
    "A line for each way"
    return rows.groupby('way', sort=False).agg(
        pairs=('error', 'size'), mean_error=('error', 'mean'), median_error=('error', 'median'),
        largest_error=('error', 'max'), seconds=('seconds', 'mean')).round(3)

def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--patients', type=int, default=5, help='three pairs each (5)')
    parser.add_argument('--spacing', type=float, default=2., metavar='MM', help='voxel size (2)')
    parser.add_argument('--filter', action='store_true', help="SimpleITK's default as well")
    args = parser.parse_args()
    ways = dict(WAYS)
    if args.filter: ways['SimpleITK, gradient filter'] = lambda f, m: by_simpleitk(f, m, True)
    rows = pd.DataFrame(trials(args.patients, args.spacing, ways))
    rows.to_csv(RESULTS/f'registration_{args.spacing:g}mm.csv', index=False, float_format='%.4g')
    print(summary(rows).to_string())

if __name__ == '__main__': main()
