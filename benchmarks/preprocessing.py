#!/usr/bin/env python
"""Time neuroscope's preprocessing of one subject against the plain SimpleITK way, and compare what both found with the truth.

The subject is simulated (1 mm, 240 × 240 × 155 voxels, four sequences, skull stripped): its bias fields are known, and so is how T1, T2 and
FLAIR were moved against T1ce. Both ways do the same job: N4, rigid registration to T1ce, affine registration to MNI152, resampling, percentile
normalization. The plain way is what a script with SimpleITK does: each step at full resolution with SimpleITK's default settings, one sequence
after the other; what has no default (the optimizer) is set as in SimpleITK's own examples: regular steps from 1, at most 100, scales from
physical shift, started from the images' moments. The library runs as a user runs it: `VolumePreprocessor` with its defaults.

Each way runs in a process of its own, so peak memory is that of one subject. `--spacing 2` to `4` is a quick run on coarser voxels.
Under load compare CPU seconds. At full size on 2 cores the library took 39 s and SimpleITK 1532 s (`results/preprocessing.txt`);
field correlation .989 against .930, registration error .068 against .134 mm, peak memory 1.2 against 1.0 GB. This is SimpleITK as it comes.
Set up with care it registers as accurately: `registration.py` is the fair comparison.
"""
import argparse, json, os, platform, resource, subprocess, sys, tempfile, time
from pathlib import Path

import nibabel as nib
import numpy as np

SHAPE = np.array([240,240,155])
STEPS = ('n4', 'registration', 'normalization')

def make_subject(folder, spacing, seed):
    "Write a simulated subject whose sequences have moved, and the truth"
    from neuroscope.core import image_data, new_like, save_volume
    from neuroscope.imaging.transforms import apply_transform
    from neuroscope.simulate import SITE_B, acquire, simulate_subject
    from scipy import ndimage as ndi
    ph = simulate_subject(seed, spacing=spacing)
    rng = np.random.default_rng(seed)
    n = np.round(SHAPE/spacing).astype(int)
    A = np.diag([-spacing,-spacing,spacing,1.])
    # off the SRI24 grid, where registration would be left out
    A[:3,3] = [118,105,-75]
    grid = nib.Nifti1Image(np.zeros(n, np.float32), A)
    truth = {}
    for q in ('t1','t1ce','t2','flair'):
        turn,shift = (rng.uniform(-.07, .07, 3),
                      rng.uniform(-6, 6, 3)) if q!='t1ce' else (np.zeros(3),np.zeros(3))
        M = nib.affines.from_matvec(nib.eulerangles.euler2mat(*turn), shift)
        a = acquire(ph, SITE_B, q)
        near = ndi.distance_transform_edt(~ph.brain, return_distances=False, return_indices=True)
        # goes on outside the brain, so that it can be interpolated
        bias = new_like(a.bias, image_data(a.bias)[tuple(near)])
        scan = apply_transform(a.scan, M, grid)
        save_volume(new_like(scan, image_data(scan).round().astype(np.int16)),
                    folder/f'S_{q}.nii.gz')
        save_volume(apply_transform(bias, M, grid), folder/f'truth_bias_{q}.nii.gz')
        truth[q] = M.tolist()
    (folder/'truth.json').write_text(json.dumps(truth))

def plain_way(paths, out):
    "SimpleITK at full resolution with its defaults, one sequence after the other"
    import SimpleITK as sitk
    from neuroscope.preprocessing.registration import load_template
    from neuroscope.imaging.transforms import to_matrix
    from neuroscope.core import to_sitk
    times = {}
    imgs = {}
    clock = time.perf_counter
    start = clock()
    for q,p in paths.items():
        img = sitk.Cast(sitk.ReadImage(str(p)), sitk.sitkFloat32)
        n4 = sitk.N4BiasFieldCorrectionImageFilter()
        imgs[q] = n4.Execute(img, sitk.Cast(img > 0, sitk.sitkUInt8))
        sitk.WriteImage(sitk.Exp(n4.GetLogBiasFieldAsImage(img)), str(out/f'field_{q}.nii.gz'))
    times['n4'] = clock()-start
    start = clock()
    def register(fixed, moving, transform):
        r = sitk.ImageRegistrationMethod()
        r.SetMetricAsMattesMutualInformation()
        r.SetOptimizerAsRegularStepGradientDescent(1., 1e-4, 100)
        r.SetOptimizerScalesFromPhysicalShift()
        r.SetInterpolator(sitk.sitkLinear)
        r.SetInitialTransform(
            sitk.CenteredTransformInitializer(fixed, moving, transform,
                                              sitk.CenteredTransformInitializerFilter.MOMENTS))
        return r.Execute(fixed, moving)
    template = sitk.Cast(to_sitk(load_template('mni152')[0]), sitk.sitkFloat32)
    own = {q: register(imgs['t1ce'], o, sitk.Euler3DTransform())
           for q,o in imgs.items() if q!='t1ce'}
    onto = register(template, imgs['t1ce'], sitk.AffineTransform(3))
    for q,o in imgs.items():
        imgs[q] = sitk.Resample(o, template,
                                sitk.CompositeTransform([own[q], onto]) if q in own else onto)
    times['registration'] = clock()-start
    start = clock()
    for q,o in imgs.items():
        v = sitk.GetArrayFromImage(o)
        lo,hi = np.percentile(v[v > 0], [.5, 99.5])
        sitk.WriteImage((o-float(lo))/float(hi-lo), str(out/f'done_{q}.nii.gz'))
    times['normalization'] = clock()-start
    def flat(t):
        return to_matrix(t if t.IsLinear() and t.GetName()!='CompositeTransform'
                         else sitk.CompositeTransform(t).GetNthTransform(0))
    return times, {q: flat(t).tolist() for q,t in own.items()} | {'atlas': flat(onto).tolist()}

def our_way(paths, out):
    "The library with its defaults"
    from neuroscope.core import load_volume, save_volume
    from neuroscope.preprocessing import VolumePreprocessor
    steps = VolumePreprocessor([('n4_bias_correction', dict(save_bias=True)), ('registration', {}),
                                ('percentile_normalization', {})])
    imgs,_,record = steps.apply({q: load_volume(p) for q,p in paths.items()})
    start = time.perf_counter()
    for q,o in imgs.items(): save_volume(o, out/f'done_{q}.nii.gz')
    saving = time.perf_counter()-start
    for q in imgs: save_volume(record[0]['findings'][q]['biasfield'], out/f'field_{q}.nii.gz')
    to_scan = {q: np.array(record[1]['findings'][q]['matrix']) for q in imgs}
    times = {k: r['seconds'] for k,r in zip(STEPS, record)}
    times['normalization'] += saving
    own = {q: (to_scan[q] @ np.linalg.inv(to_scan['t1ce'])).tolist() for q in imgs if q!='t1ce'}
    return times, own | {'atlas': to_scan['t1ce'].tolist()}

WAYS = {'SimpleITK, full resolution': plain_way, 'neuroscope': our_way}

def run_way(name, folder):
    "One way, in this process: times, CPU seconds, peak memory, transforms"
    from neuroscope.core import peak_mb
    # importing is not what is timed
    import neuroscope.preprocessing
    out = folder/name.split(',')[0]
    out.mkdir(exist_ok=True)
    def cpu(): return sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    wall = time.perf_counter()
    used = cpu()
    times,transforms = WAYS[name]({q: folder/f'S_{q}.nii.gz' for q in ('t1','t1ce','t2','flair')},
                                  out)
    return dict(times=times, wall=time.perf_counter()-wall, cpu=cpu()-used, peak_mb=peak_mb(),
                transforms=transforms)

def accuracy(name, res, folder):
    "Correlation of the log fields with the truth, registration error in mm, Dice of the brain with the atlas's"
    from neuroscope.core import image_data, load_volume
    from neuroscope.imaging.transforms import (apply_transform, brain_points, compose, invert,
                                               mean_displacement)
    from nilearn.datasets import load_mni152_brain_mask
    from scipy import ndimage as ndi
    truth = json.loads((folder/'truth.json').read_text())
    out = folder/name.split(',')[0]
    brains = {q: ndi.binary_erosion(image_data(load_volume(folder/f'S_{q}.nii.gz')) > 0,
                                    iterations=2) for q in truth}
    def log(p, m): return np.log(image_data(load_volume(p))[m])
    corr = [
        np.corrcoef(log(out/f'field_{q}.nii.gz', m), log(folder/f'truth_bias_{q}.nii.gz', m))[0,1]
        for q,m in brains.items()]
    points = brain_points(load_volume(folder/'S_t1ce.nii.gz'))
    error = [mean_displacement(np.array(res['transforms'][q]), np.linalg.inv(np.array(M)), points)
             for q,M in truth.items() if q!='t1ce']
    done = load_volume(out/'done_t1ce.nii.gz')
    a = np.abs(image_data(done) - image_data(done).flat[0]) > 1e-3
    b = image_data(apply_transform(load_mni152_brain_mask(), np.eye(4), done, 'nearest')) > 0
    return dict(field=corr, error=error, dice=float(2*(a & b).sum()/(a.sum()+b.sum())))

def main():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--spacing', type=float, default=1., metavar='MM',
                   help='voxel size; 2 or 3 for a quick run (1: 240 × 240 × 155 voxels)')
    p.add_argument('--seed', type=int, default=0, help='of the simulated subject (0)')
    p.add_argument('--threads', type=int, default=2, help='of SimpleITK and numpy (2)')
    p.add_argument('--skip-plain', action='store_true', help='only the library, for profiling')
    p.add_argument('--only', help=argparse.SUPPRESS)
    p.add_argument('--folder', help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.only: return print(json.dumps(run_way(args.only, Path(args.folder))))
    cpu = next((l.split(':')[1].strip()
                for l in open('/proc/cpuinfo') if l.startswith('model name')),
               '') if os.path.exists('/proc/cpuinfo') else ''
    print(f'{cpu or platform.processor() or platform.machine()}, {args.threads} '
          f'threads, load {os.getloadavg()[0]:.1f}; a simulated subject, '
          f'{"×".join(map(str, np.round(SHAPE/args.spacing).astype(int)))} voxels', flush=True)
    n = str(args.threads)
    env = os.environ | dict(ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS=n, OMP_NUM_THREADS=n,
                            OPENBLAS_NUM_THREADS=n, MKL_NUM_THREADS=n)
    with tempfile.TemporaryDirectory() as tmp:
        folder = Path(tmp)
        res = {}
        make_subject(folder, args.spacing, args.seed)
        for name in list(WAYS)[::-1]:
            if args.skip_plain and name!='neuroscope': continue
            r = subprocess.run([sys.executable, __file__, '--only', name, '--folder', tmp], env=env,
                               stdout=subprocess.PIPE, text=True, check=True)
            res[name] = json.loads(r.stdout.splitlines()[-1])
            a = accuracy(name, res[name], folder)
            print(f'\n{name}: {res[name]["wall"]:.1f} s '
                  f'({", ".join(f"{k} {v:.1f}" for k,v in res[name]["times"].items())}), CPU '
                  f'{res[name]["cpu"]:.1f} s, peak {res[name]["peak_mb"]:.0f} MB')
            print(f'  log field against the truth: correlation {np.mean(a["field"]):.4f} '
                  f'(lowest {min(a["field"]):.4f}); registration error '
                  f'{np.mean(a["error"]):.3f} mm (largest {max(a["error"]):.3f}); Dice with '
                  f'the atlas {a["dice"]:.3f}', flush=True)
    if len(res)==2:
        ours,plain = (res[k] for k in ('neuroscope', 'SimpleITK, full resolution'))
        print(
            f'\nratio: wall {plain["wall"]/ours["wall"]:.1f}x, CPU {plain["cpu"]/ours["cpu"]:.1f}x')

if __name__=='__main__': main()
